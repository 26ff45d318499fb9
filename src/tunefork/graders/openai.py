"""OpenAI's graders, in their own shape: `string_check`."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import PrivateAttr, field_validator, model_validator

from tunefork.graders.grade import Grade, Grader, pass_or_fail, shown

_TEMPLATE = re.compile(r"\{\{\s*(?P<name>[^{}]*?)\s*\}\}")
_OUTPUT, _REFERENCE = "sample.output_text", "item.reference"
_SAID = {
    "eq": "is",
    "ne": "is not",
    "like": "contains",
    "ilike": "contains, in any case,",
}


class StringCheck(Grader):
    """Compare two texts in which `{{sample.output_text}}` and `{{item.reference}}` stand.

    `eq` and `ne`: equal or not; `like` and `ilike`: `input` contains `reference`, with or
    without regard to case. The reference of the question is `item.reference`.
    """

    type: Literal["string_check"] = "string_check"
    name: str = "string_check"
    input: str = "{{sample.output_text}}"
    reference: str = "{{item.reference}}"
    operation: Literal["eq", "ne", "like", "ilike"]
    reference_setting = None

    _item_reference: str | None = PrivateAttr(default=None)

    @field_validator("input", "reference")
    @classmethod
    def _known_templates(cls, text: str) -> str:
        for match in _TEMPLATE.finditer(text):
            if match["name"] not in (_OUTPUT, _REFERENCE):
                raise ValueError(
                    f"unknown template {shown(match.group())}: known are "
                    f"`{{{{{_OUTPUT}}}}}` and `{{{{{_REFERENCE}}}}}`"
                )
        return text

    @model_validator(mode="after")
    def _sees_answer(self) -> StringCheck:
        if not _names(self.input, _OUTPUT) and not _names(self.reference, _OUTPUT):
            raise ValueError(f"neither text holds `{{{{{_OUTPUT}}}}}`, the answer")
        return self

    def model_post_init(self, context: Any) -> None:
        """Keep the question's reference, which the parser hands over as context."""
        self._item_reference = context["reference"] if context else None

    @classmethod
    def needs_reference(cls, settings: dict[str, Any]) -> bool:
        """Say whether a template stands for the question's reference."""
        fields = cls.model_fields
        texts = (settings.get(name, fields[name].default) for name in ("input", "reference"))
        return any(_names(str(text), _REFERENCE) for text in texts)

    def grade(self, answer: str) -> Grade:
        """Fill the templates and compare."""
        given, wanted = self._filled(self.input, answer), self._filled(self.reference, answer)
        if self.operation == "eq":
            passed = given == wanted
        elif self.operation == "ne":
            passed = given != wanted
        elif self.operation == "like":
            passed = wanted in given
        else:
            passed = wanted.casefold() in given.casefold()
        verb = "holds" if passed else "does not hold"
        return pass_or_fail(passed, f"`{self.operation}` {shown(wanted)} {verb}")

    def describe(self) -> str:
        """Name the operation and the reference."""
        return f"{shown(self.input)} {_SAID[self.operation]} {shown(self.reference)}"

    def _filled(self, text: str, answer: str) -> str:
        values = {_OUTPUT: answer, _REFERENCE: self._item_reference or ""}
        return _TEMPLATE.sub(lambda match: values[match["name"]], text)


def _names(text: str, template: str) -> bool:
    return any(match["name"] == template for match in _TEMPLATE.finditer(text))
