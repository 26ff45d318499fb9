"""Say what is wrong in a spec: each problem with its key, its line and what to do."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tunefork.core.errors import SpecError, Where, did_you_mean
from tunefork.workflow.spec_file import line_of
from tunefork.workflow.spec_part import Part, is_part, parts_by_name

_NO_KEYS = {"model_type", "model_attributes_type"}  # pydantic's names of the problem


def explain(
    error: ValidationError, spec: type[Part], path: Path, tree: yaml.Node | None
) -> SpecError:
    """Return one error for all problems; an unknown key, mostly the cause of others, first."""
    problems: dict[str, SpecError] = {}
    for item in sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden"):
        place = _find(item["loc"], spec)
        found = _explain(item, place, Where(str(path), line_of(tree, place.keys)))
        earlier = problems.get(place.name)
        if earlier is not None:  # the alternatives of one value are one problem
            reason = found.message.rsplit(": ", 1)[-1]
            message = f"{earlier.message} or {reason}"
            found = SpecError(message, where=earlier.where, hint=earlier.hint)
        problems[place.name] = found
    first, *others = problems.values()
    details = tuple(f"also, {other.where}: {other.message}" for other in others)
    return SpecError(first.message, where=first.where, hint=first.hint, details=details)


@dataclass(frozen=True)
class _Place:
    keys: tuple[str, ...]  # that lead to a value
    part: type[Part]  # that the last key stands in
    choices: tuple[str, ...]  # the names that the value chooses from, where it does

    @property
    def name(self) -> str:
        return ".".join(self.keys)


def _find(location: tuple[int | str, ...], spec: type[Part]) -> _Place:
    """Return where pydantic found a problem, without the names of the types that it tried."""
    keys: list[str] = []
    part, here = spec, spec  # `here`: the part that the keys lead to, if it is one
    choices: dict[str, type[Part]] = {}
    for step in location:
        if step in choices and choices[str(step)] is not here:
            here = choices[str(step)]
        elif is_part(here):
            keys.append(str(step))
            field = here.model_fields.get(str(step))
            part, choices = here, parts_by_name(field) if field else {}
            here = field.annotation if field else None  # type: ignore[assignment]
    return _Place(tuple(keys), part, tuple(choices))


def _explain(item: Any, place: _Place, where: Where) -> SpecError:
    if item["type"] == "extra_forbidden":
        known = list(place.part.model_fields)
        hint = did_you_mean(place.keys[-1], known) or f"known keys here: {', '.join(known)}"
        return SpecError(f"unknown key `{place.name}`", where=where, hint=hint)
    if item["type"] == "missing":
        hint = "add it; the README shows a spec"
        return SpecError(f"`{place.name}` is missing", where=where, hint=hint)
    if item["type"] == "union_tag_not_found":
        hint = f"add `name:` with one of {', '.join(place.choices)}"
        return SpecError(f"`{place.name}.name` is missing", where=where, hint=hint)
    if item["type"] == "union_tag_invalid":
        tag = str(item["ctx"]["tag"])
        hint = did_you_mean(tag, list(place.choices)) or f"use one of {', '.join(place.choices)}"
        return SpecError(f"there is no {place.keys[-1]} `{tag}`", where=where, hint=hint)
    field = place.part.model_fields.get(place.keys[-1]) if place.keys else None
    if field is not None and is_part(field.annotation) and item["type"] in _NO_KEYS:
        known = list(field.annotation.model_fields)
        return SpecError(
            f"`{place.name}` cannot be {_shown(item['input'])}: it has keys of its own",
            where=where,
            hint=f"write `{place.keys[-1]}: {{{known[0]}: …}}`; its keys are {', '.join(known)}",
        )
    reason = str(item["msg"]).removeprefix("Input ").split(", unable to parse")[0]
    return SpecError(
        f"`{place.name}` cannot be {_shown(item['input'])}: it {reason}",
        where=where,
        hint="leave the line out to get the default; the README shows a spec",
    )


def _shown(value: object) -> str:
    shortener = reprlib.Repr()
    shortener.maxlevel = 2  # anchors can make a value of any size from a few lines
    shortener.maxstring = 80
    return shortener.repr(value)
