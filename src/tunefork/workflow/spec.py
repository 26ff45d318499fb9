"""The spec, `tunefork.yaml`: small, strict, and read before anything is loaded."""

from __future__ import annotations

import datetime
import json
import os
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunefork.core.errors import SpecError, Where, did_you_mean

Auto = Literal["auto"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSpec(_Part):
    """Where the examples are. Paths are relative to the spec."""

    train: str
    validation: str | None = None  # split off `train` where it is not given
    documents: str | None = None  # for retrieval
    map: dict[Literal["user", "assistant", "system"], str] | None = None
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of general rows in what is trained


class TrainingSpec(_Part):
    """How to train; `auto` is derived by stated rules."""

    epochs: Annotated[int, Field(ge=1)] | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    batch_tokens: Annotated[int, Field(ge=1)] | Auto = "auto"
    max_length: Annotated[int, Field(ge=8)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


class GateSpec(_Part):
    """What a model must show before it ships."""

    min_gain: Annotated[float, Field(ge=0, le=1)] = 0.05
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    max_forgetting: Annotated[float, Field(ge=0, le=1)] = 0.02


class AutoSpec(_Part):
    """The strategy that fits."""

    name: Literal["auto"]


class FullSpec(_Part):
    """Full fine-tuning."""

    name: Literal["full"]


class LoraSpec(_Part):
    """LoRA with settings of its own."""

    name: Literal["lora"]
    rank: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] | None = None


class Spec(_Part):
    """The whole spec."""

    goal: str = ""
    base: str = "tiny"
    data: DataSpec
    golden: str | None = None
    strategy: Annotated[AutoSpec | FullSpec | LoraSpec, Field(discriminator="name")] = AutoSpec(
        name="auto"
    )
    objective: Literal["sft"] = "sft"
    training: TrainingSpec = TrainingSpec()
    gate: GateSpec = GateSpec()
    date: datetime.date | None = None  # what chat templates take for today; the run's by default

    @field_validator("strategy", mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value


class Project(BaseModel):
    """A spec and the folder that its paths start from."""

    model_config = ConfigDict(frozen=True)

    spec: Spec
    folder: Path
    name: str

    @property
    def mapping(self) -> dict[str, str] | None:
        """Which of the user's columns is what, where they named them."""
        given = self.spec.data.map
        return {str(role): column for role, column in given.items()} if given else None

    def path(self, relative: str) -> Path:
        """Return a path of the spec as one that can be opened."""
        return self.folder / os.path.expanduser(relative)  # leaves an unknown `~name` as it is


def load_project(path: Path) -> Project:
    """Read a spec; `path` is the file, or the folder that holds `tunefork.yaml`.

    Raises:
        SpecError: It cannot be read or used; all problems at once, each with its line.
    """
    if path.is_dir():
        path = path / "tunefork.yaml"
    text = _read(path)
    values, tree = _parse_json(text, path) if path.suffix == ".json" else _parse_yaml(text, path)
    if not isinstance(values, dict):
        raise SpecError(
            "a spec is a list of `key: value` lines",
            where=path,
            hint="`tunefork init DIR` writes one to start from",
        )
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        raise _validation_error(error, path, tree) from error
    return Project(spec=spec, folder=path.parent.resolve(), name=path.parent.resolve().name)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(
            "there is no such spec", where=path, hint="`tunefork init DIR` writes one"
        ) from error
    except UnicodeDecodeError as error:
        raise SpecError("the spec is not UTF-8", where=path, hint="save it as UTF-8") from error
    except OSError as error:
        raise SpecError(
            f"cannot read the spec: {error.strerror}",
            where=path,
            hint="check the path, and that you may read it",
        ) from error


def _parse_yaml(text: str, path: Path) -> tuple[Any, yaml.Node | None]:
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _yaml_error(error, path) from error
    except RecursionError as error:
        raise SpecError(
            "not valid YAML: nested too deeply", where=path, hint="a spec has two levels"
        ) from error
    except ValueError as error:  # a date or number that looks like one and is none
        raise SpecError(
            f"not valid YAML: {error}", where=path, hint="put text that is no date in quotes"
        ) from error
    _refuse_twins(tree, path)
    return values, tree


def _parse_json(text: str, path: Path) -> tuple[Any, None]:
    """Read the resolved spec of a run. YAML would read some of JSON's text otherwise."""
    try:
        return json.loads(text), None
    except json.JSONDecodeError as error:
        where = Where(str(path), error.lineno)
        hint = "correct this line, or write the spec as YAML"
        raise SpecError(f"not valid JSON: {error.msg}", where=where, hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"not valid JSON: {error}", where=path, hint="write it anew") from error


def _refuse_twins(tree: yaml.Node | None, path: Path) -> None:
    """Stop at a key that is given twice, of which YAML would silently take the last."""
    waiting, seen = [tree], {id(None)}
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))  # an anchor may bring a node in many times
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        known: set[str] = set()
        for key, value in node.value:
            waiting.append(value)
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                where = Where(str(path), key.start_mark.line + 1)
                hint = "keep one of the two"
                raise SpecError(f"the key `{key.value}` is given twice", where=where, hint=hint)
            if isinstance(key, yaml.ScalarNode):
                known.add(key.value)


def _yaml_error(error: yaml.YAMLError, path: Path) -> SpecError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    line = mark.line + 1 if mark is not None else None
    return SpecError(
        f"not valid YAML: {problem}",
        where=Where(str(path), line),
        hint="check the indentation and the colons around this line",
    )


def _validation_error(error: ValidationError, path: Path, tree: yaml.Node | None) -> SpecError:
    """Return one error for all problems; an unknown key, mostly the cause of others, first."""
    problems: dict[str, SpecError] = {}
    for item in sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden"):
        place = _place(item["loc"])
        found = _explain(item, place, Where(str(path), _line_of(tree, place)))
        earlier = problems.get(".".join(place))
        if earlier is not None:  # the alternatives of one value are one problem
            reason = found.message.rsplit(": ", 1)[-1]
            message = f"{earlier.message} or {reason}"
            found = SpecError(message, where=earlier.where, hint=earlier.hint)
        problems[".".join(place)] = found
    first, *others = problems.values()
    details = tuple(f"also, {other.where}: {other.message}" for other in others)
    return SpecError(first.message, where=first.where, hint=first.hint, details=details)


def _place(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that lead to a value, without the names of the types that were tried."""
    place: list[str] = []
    model: Any = Spec
    for part in location:
        fields = model.model_fields if _is_part(model) else {}
        if part in ("auto", "full", "lora") and place == ["strategy"]:
            model = {"auto": AutoSpec, "full": FullSpec, "lora": LoraSpec}[str(part)]
        elif part in fields or not place or _is_part(model):
            place.append(str(part))
            model = fields[part].annotation if part in fields else None
    return place


def _is_part(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, _Part)


def _explain(item: Any, place: list[str], where: Where) -> SpecError:
    key = ".".join(place)
    if item["type"] == "extra_forbidden":
        known = _known_keys(item["loc"])
        hint = did_you_mean(place[-1], known) or f"known keys here: {', '.join(known)}"
        return SpecError(f"unknown key `{key}`", where=where, hint=hint)
    if item["type"] == "missing":
        return SpecError(f"`{key}` is missing", where=where, hint="add it; the README shows a spec")
    if item["type"] == "union_tag_invalid":
        names = ["auto", "full", "lora"]
        tag = str(item["ctx"]["tag"])
        hint = did_you_mean(tag, names) or f"use one of {', '.join(names)}"
        return SpecError(f"there is no strategy `{tag}`", where=where, hint=hint)
    reason = str(item["msg"]).removeprefix("Input ")
    return SpecError(
        f"`{key}` cannot be {_shown(item['input'])}: it {reason}",
        where=where,
        hint="leave the line out to get the default; the README shows a spec",
    )


def _shown(value: object) -> str:
    shortener = reprlib.Repr()
    shortener.maxlevel = 2  # anchors can make a value of any size from a few lines
    shortener.maxstring = 80
    return shortener.repr(value)


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Spec
    for part in location[:-1]:
        if part == "lora":
            model = LoraSpec
        elif _is_part(model) and _is_part(model.model_fields[part].annotation):
            model = model.model_fields[part].annotation
    return list(model.model_fields)


def _line_of(tree: yaml.Node | None, place: list[str]) -> int | None:
    """Return the line of the deepest part of a key path that stands in the file."""
    line = tree.start_mark.line + 1 if tree is not None else None
    node = tree
    for part in place:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
