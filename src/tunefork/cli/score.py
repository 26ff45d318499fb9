"""`tunefork score MODEL FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tunefork.cli.check import Mapping, parse_map
from tunefork.cli.options import AnyModel, Json


def score(
    model: AnyModel,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows in any format.")],
    map_: Mapping = None,
    json: Json = False,
) -> None:
    """Say what a model makes of given rows: rewards, labels, or how likely answers are."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.score import score as run_score

    with show.TalkSink() as sink:
        result = run_score(model, file, parse_map(map_), sink)
    if json:
        show.print_json(result)
        return
    show.talk.print(_heading(result), soft_wrap=True)
    for row in result["rows"]:
        typer.echo(f"{_told(row)}\t{row['where']}")
    if result.get("better_ahead") is not None:
        typer.echo(f"the better answer is ahead in {result['better_ahead']:.1%} of the pairs")
    if result.get("accuracy") is not None:
        typer.echo(
            f"labels told rightly: {result['accuracy']:.1%} of {len(result['rows']):,} texts"
        )


def _heading(result: dict[str, Any]) -> str:
    of_what = "the better answer, then the worse" if result.get("better_ahead") is not None else ""
    return f"{result['unit']}{': ' if of_what else ''}{of_what}"


def _told(row: dict[str, Any]) -> str:
    if "scores" in row:
        return " ".join(f"{value:+.3f}" for value in row["scores"])
    pairs = zip(row["labels"], row["probabilities"], strict=True)
    shown = ", ".join(f"{name} ({share:.0%})" for name, share in pairs)
    return shown or f"none (at most {row['likeliest']} ({row['probability']:.0%}))"
