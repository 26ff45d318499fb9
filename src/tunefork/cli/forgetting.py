"""`tunefork forgetting MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.options import Json


def forgetting(
    model: Annotated[str, typer.Argument(help="A tuned model.")],
    suite: Annotated[
        list[Path] | None,
        typer.Option(help="Your own: multiple choice, minimal pairs, IFEval, golden questions."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure what a tuned model lost against its base, on general questions and suites."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.forgetting import measure_model

    with show.TalkSink() as sink:
        result = measure_model(model, suite or [], sink)
    if json:
        show.print_json(result)
        return
    for name, found in result["suites"].items():
        shares = f"{found['base_accuracy']:7.1%} {found['tuned_accuracy']:7.1%}"
        span = f"{-found['high']:+.1%} to {-found['low']:+.1%}"
        typer.echo(f"{name:<28}{found['items']:>6,} items {shares}  {-found['drop']:+.1%} ({span})")
