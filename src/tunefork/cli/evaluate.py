"""`tunefork eval MODEL --golden FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.options import AnyModel, Json


def evaluate(
    model: AnyModel,
    golden: Annotated[Path, typer.Option("--golden", help="Questions with graders, JSON lines.")],
    json: Json = False,
) -> None:
    """Let a model answer golden questions, and grade what it says."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.evaluate import evaluate as run_evaluation

    with show.TalkSink() as sink:
        result = run_evaluation(model, golden, sink)
    if json:
        show.print_json(result)
        return
    for answer in result["answers"]:
        mark = "right" if answer["passed"] else "WRONG"
        typer.echo(f"{mark}  {answer['question']}")
        typer.echo(f"       {' '.join(answer['answer'].split())}")
        if not answer["passed"]:
            typer.echo(f"       why: {answer['detail']}")
    n_right = sum(answer["passed"] for answer in result["answers"])
    typer.echo(
        f"{n_right} of {result['questions']} right; score {result['score']:.1%} "
        f"({result['low']:.1%} to {result['high']:.1%})"
    )
