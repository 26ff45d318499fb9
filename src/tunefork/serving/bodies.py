"""What every body of a request is: strict, and clear about what it does not do.

A parameter is one of three things, and `docs/serve.md` lists which (a test keeps the two in step):
supported, a field of the body; ignored, since it cannot change an answer; refused, since it could.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
    Field(max_length=16),
]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class Part(BaseModel):
    """A part of a body; a value of another type is an error, never a guess."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Body(Part):
    """A whole body."""

    # Accepted and dropped: they change no answer.
    ignored: ClassVar[frozenset[str]] = frozenset()
    # Answered with 400 unless null or one of these values, which mean what is done anyway.
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _sort(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        _refuse_half_characters(value)
        kept = {}
        for name, given in value.items():
            if name in cls.ignored:
                continue
            if name in cls.refused:
                _refuse(name, given, cls.refused[name])
                continue
            kept[name] = given
        return kept

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say that ignored parameters may be there."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name in sorted(cls.ignored):
            schema.setdefault("properties", {})[name] = {"description": "Ignored."}
        return schema


def _refuse(name: str, given: object, harmless: tuple[object, ...]) -> None:
    if given is None or any(given == each and type(given) is type(each) for each in harmless):
        return
    raise PydanticCustomError(
        "own_unsupported_parameter",
        "Unsupported parameter: `{param}` is not supported here; leave it out.",
        {"param": name},
    )


def _refuse_half_characters(value: object) -> None:
    """Stop at text that no UTF-8 can hold: JSON can escape one half of a surrogate pair."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str) and not each.isascii():
            try:
                each.encode()
            except UnicodeEncodeError:
                raise PydanticCustomError(
                    "own_half_character",
                    "The text holds half a character (a lone `\\ud…` escape).",
                ) from None
