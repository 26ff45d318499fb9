"""Read the file of a spec, YAML or JSON, and say where in it a key stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tunefork.core.errors import SpecError, Where


def read_values(path: Path) -> tuple[Any, yaml.Node | None]:
    """Return what a spec's file says, and the tree of its lines where it is YAML.

    Raises:
        SpecError: It cannot be read, is not valid, or gives a key twice.
    """
    text = _read(path)
    return _parse_json(text, path) if path.suffix == ".json" else _parse_yaml(text, path)


def line_of(tree: yaml.Node | None, place: Sequence[str]) -> int | None:
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
