"""`tunefork check FILE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tunefork.cli.options import Json

Mapping = Annotated[
    str | None,
    typer.Option(
        "--map", metavar="KEY=COLUMN,…", help="What the columns mean: user=question,assistant=reply"
    ),
]
BaseName = Annotated[
    str, typer.Option("--base", help="Whose tokens and chat template count; `none` for neither.")
]
_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_SHOWN_ROWS = 5


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The data to train on.")],
    validation: Annotated[
        Path | None, typer.Option("--validation", help="Rows that must not be in it.")
    ] = None,
    golden: Annotated[
        Path | None, typer.Option("--golden", help="Golden questions that must not be in it.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="What users really ask: rows, or lines of .txt."),
    ] = None,
    map_: Mapping = None,
    base: BaseName = "tiny",
    fix: Annotated[
        Path | None, typer.Option("--fix", metavar="OUT", help="Write the mended rows, as .jsonl.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Write a page.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what is wrong with a data file, and mend what can be mended safely."""
    mapping = parse_map(map_)
    from tunefork.cli import show
    from tunefork.workflow.check import Against
    from tunefork.workflow.check import check as run_check

    held = Against(validation, golden, against, None if base == "none" else base)
    with show.TalkSink() as sink:
        checked = run_check(file, mapping=mapping, against=held, fix=fix, report=report, sink=sink)
    if json:
        show.print_json(checked.result)
    else:
        _show(checked.result)
    if not checked.is_sound:
        sys.exit(1)


def parse_map(text: str | None) -> dict[str, str] | None:
    """Return `user=question,assistant=answer` as a mapping.

    Raises:
        UsageError: It is written otherwise.
    """
    from tunefork.core.errors import UsageError

    if text is None:
        return None
    found: dict[str, str] = {}
    for part in text.split(","):
        key, equals, column = part.partition("=")
        if not equals or not key.strip() or not column.strip():
            raise UsageError(
                f"`--map {text}`: `{part}` names no column",
                hint="write it as user=COLUMN,assistant=COLUMN",
            )
        found[key.strip()] = column.strip()
    return found


def _show(result: dict[str, Any]) -> None:
    findings = result["findings"]
    typer.echo(f"{result['rows']:,} rows, format {result['format']}")
    for finding in findings:
        typer.echo()
        mark = typer.style(f"{finding['severity']:<8}", fg=_COLOURS[finding["severity"]], bold=True)
        typer.echo(f"{mark} {_plain(finding['message'])}  [{finding['code']}]")
        if finding["example"]:
            typer.echo(f"         e.g. {_plain(finding['example'])}")
        if finding["rows"]:
            typer.echo(f"         rows {_rows(finding['rows'])}")
        typer.echo(f"         → {_plain(finding['hint'])}")
    typer.echo()
    counts = {
        severity: sum(finding["severity"] == severity for finding in findings)
        for severity in _COLOURS
    }
    typer.echo(", ".join(f"{n} {name}{'' if n == 1 else 's'}" for name, n in counts.items()))
    if "fixed" in result:
        fixed = result["fixed"]
        typer.echo(
            f"Mended: {fixed['kept']:,} of {fixed['rows']:,} rows kept, {fixed['dropped']:,} "
            f"dropped: {fixed['out']}; every change: {fixed['changes']}"
        )
        if fixed["versions"]:
            typer.echo(f"Written down as {fixed['versions']['after']}")
    if "report" in result:
        typer.echo(f"Report: {result['report']}")


def _rows(rows: list[int]) -> str:
    more = len(rows) - _SHOWN_ROWS
    return ", ".join(map(str, rows[:_SHOWN_ROWS])) + (f" and {more:,} more" if more > 0 else "")


def _plain(text: str) -> str:
    """Return a text without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
