"""Graders of form: `json_schema` and `length`."""

from __future__ import annotations

import json
import re
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, PositiveInt, field_validator, model_validator

from tunefork.graders.grade import Failure, Grade, Grader, failed, pass_or_fail, shown
from tunefork.graders.patterns import SlowPatternError
from tunefork.graders.schema_patterns import check_patterns, keywords

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_FENCED = re.compile(r"```[A-Za-z0-9]*[ \t]*\n(?P<body>.*)\n?```", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?…]+[\"'\u201d\u2019)\]]*(?=\s|$)|[\u3002\uff01\uff1f]+")


class JsonSchema(Grader):
    """The answer is JSON, alone or in one code fence, and valid under a JSON Schema.

    References inside the schema (`#/$defs/…`) are followed, others are refused: grading never
    opens a connection.
    """

    model_config = ConfigDict(populate_by_name=True)

    type: Literal["json_schema"] = "json_schema"
    # pydantic's models have a method called `schema`.
    json_schema: Annotated[dict[str, Any], Field(alias="schema")]
    reference_setting = "schema"

    @field_validator("json_schema", mode="before")
    @classmethod
    def _read(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return _strict_json(value)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        from jsonschema import SchemaError
        from jsonschema.validators import Draft202012Validator, validator_for

        try:
            outside = _outside_reference(schema)
            validator_for(schema, default=Draft202012Validator).check_schema(schema)
            check_patterns({key: part for key, part in schema.items() if key != "$schema"})
        except SchemaError as error:
            raise ValueError(f"not a JSON Schema: {error.message}") from error
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if outside is not None:
            raise ValueError(f"refers to {shown(outside)}, outside the schema")
        return schema

    def grade(self, answer: str) -> Grade:
        """Parse the answer and validate it; the first fault is the detail."""
        from jsonschema.exceptions import best_match
        from referencing.exceptions import Unresolvable

        text = answer.strip()
        fenced = _FENCED.fullmatch(text)
        try:
            value = _strict_json(fenced["body"] if fenced else text)
        except ValueError as error:
            return pass_or_fail(False, f"not JSON: {error}")
        try:
            fault = best_match(self._validator.iter_errors(value))
        except SlowPatternError as error:
            return failed(Failure("other_error", str(error)))
        except Unresolvable as error:
            return pass_or_fail(False, f"the schema refers to nothing: {error}")
        except (RecursionError, ArithmeticError) as error:
            return pass_or_fail(False, f"the schema cannot be checked: {error}")
        if fault is not None:
            return pass_or_fail(False, f"{fault.json_path}: {shown(fault.message)}")
        return pass_or_fail(True, "valid under the schema")

    def describe(self) -> str:
        """Name the schema's title where it has one."""
        title = self.json_schema.get("title")
        return "is JSON that fits the schema" + (f" {shown(str(title))}" if title else "")

    @cached_property
    def _validator(self) -> Validator:
        from jsonschema.validators import Draft202012Validator, extend, validator_for
        from referencing import Registry

        kind = validator_for(self.json_schema, default=Draft202012Validator)
        # The library would search without a limit of time; and where it meets `$schema` again,
        # through a reference, it would go back to keywords of its own.
        bounded: type[Validator] = extend(kind, keywords())  # type: ignore[no-untyped-call]
        schema = {key: part for key, part in self.json_schema.items() if key != "$schema"}
        # Without a registry of our own the library would fetch what it does not know.
        return bounded(schema, registry=Registry())


class Length(Grader):
    """The answer is as long as asked; at least one bound is given.

    Words are separated by white space. A sentence ends at `.`, `!`, `?` or `…` before white
    space, or at the end of the answer.
    """

    type: Literal["length"] = "length"
    min_words: PositiveInt | None = None
    max_words: PositiveInt | None = None
    max_characters: PositiveInt | None = None
    max_sentences: PositiveInt | None = None
    reference_setting = None

    @model_validator(mode="after")
    def _has_bounds(self) -> Length:
        bounds = (self.min_words, self.max_words, self.max_characters, self.max_sentences)
        if all(bound is None for bound in bounds):
            raise ValueError("give `min_words`, `max_words`, `max_characters` or `max_sentences`")
        if self.min_words and self.max_words and self.min_words > self.max_words:
            raise ValueError("`min_words` is more than `max_words`")
        return self

    def grade(self, answer: str) -> Grade:
        """Count, and name each bound that is broken."""
        answer = answer.strip()
        words, sentences = len(answer.split()), count_sentences(answer)
        faults = []
        if self.min_words is not None and words < self.min_words:
            faults.append(f"{words} of at least {self.min_words} words")
        for count, most, unit in (
            (words, self.max_words, "words"),
            (len(answer), self.max_characters, "characters"),
            (sentences, self.max_sentences, "sentences"),
        ):
            if most is not None and count > most:
                faults.append(f"{count} of at most {most} {unit}")
        return pass_or_fail(not faults, ", ".join(faults) or f"{words} words")

    def describe(self) -> str:
        """Name the bounds."""
        bounds = (
            ("at least", self.min_words, "words"),
            ("at most", self.max_words, "words"),
            ("at most", self.max_characters, "characters"),
            ("at most", self.max_sentences, "sentences"),
        )
        return "has " + ", ".join(f"{side} {n} {unit}" for side, n, unit in bounds if n)


def count_sentences(text: str) -> int:
    """Return how many sentences a text has; one without an end counts too."""
    ends = list(_SENTENCE_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    return len(ends) + (1 if rest.strip() else 0)


def _strict_json(text: str) -> Any:  # a JSON value has no type
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _outside_reference(schema: object) -> str | None:
    """Return a `$ref` that points out of the schema, or None."""
    if isinstance(schema, dict):
        for key in ("$ref", "$dynamicRef"):
            target = schema.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                return target
        parts = list(schema.values())
    elif isinstance(schema, list):
        parts = schema
    else:
        return None
    return next((found for part in parts if (found := _outside_reference(part))), None)
