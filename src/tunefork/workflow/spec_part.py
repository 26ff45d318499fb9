"""What every part of a spec is made of: strict models, some of which are told apart by `name`."""

from __future__ import annotations

from typing import Any, Literal, TypeGuard, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.fields import FieldInfo

Auto = Literal["auto"]


class Part(BaseModel):
    """A mapping of the spec; an unknown key in it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _from_name(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


# Lets a part that is chosen by name be written as the name alone: `strategy: full`.
by_name = BeforeValidator(_from_name)


def is_part(kind: Any) -> TypeGuard[type[Part]]:
    """Say whether something is a class of parts."""
    return isinstance(kind, type) and issubclass(kind, Part)


def parts_by_name(field: FieldInfo) -> dict[str, type[Part]]:
    """Return the parts that a field chooses from, by the name that chooses each."""
    kinds = (field.annotation, *get_args(field.annotation))
    named = [kind for kind in kinds if is_part(kind) and "name" in kind.model_fields]
    return {name: kind for kind in named for name in get_args(kind.model_fields["name"].annotation)}
