"""Print what the registry says, for people: aligned columns, and `key: value` lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from tunefork.cli import show

_NOTHING = "-"


def print_list(name: str, rows: list[dict[str, Any]], columns: Sequence[str], json: bool) -> None:
    """Print rows as columns, or as one JSON object under `name`."""
    if json:
        show.print_json({name: rows})
        return
    if not rows:
        show.talk.print(f"There are no {name} yet.")
        return
    table = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def print_entry(entry: dict[str, Any], json: bool) -> None:
    """Print one entry as nested lines, or as JSON."""
    if json:
        show.print_json(entry)
        return
    _print_nested(entry, 0)


def print_diff(found: dict[str, Any], json: bool) -> None:
    """Print what differs between two runs or models."""
    if json:
        show.print_json(found)
        return
    if found["same"]:
        typer.echo("no difference")
    for key, change in found["changes"].items():
        typer.echo(f"{key}: {_cell(change['before'])} → {_cell(change['after'])}")


def _print_nested(entry: dict[str, Any], depth: int) -> None:
    indent = "  " * depth
    for key, value in entry.items():
        if isinstance(value, dict) and value:
            typer.echo(f"{indent}{key}:")
            _print_nested(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            typer.echo(f"{indent}{key}:")
            for each in value:
                text = ", ".join(f"{name} {_cell(part)}" for name, part in each.items())
                typer.echo(f"{indent}  - {text}")
        else:
            typer.echo(f"{indent}{key}: {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None or value in ([], {}):
        return _NOTHING
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value)
    return " ".join(str(value).split())
