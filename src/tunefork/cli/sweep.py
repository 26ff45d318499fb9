"""`tunefork sweep SPEC`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tunefork.cli.options import Halvings, Json, Out, Resume, SpecPath


def sweep(
    spec: SpecPath,
    over: Annotated[
        list[str],
        typer.Option(
            "--over", metavar="KEY=VALUE,VALUE", help="A setting to vary, and its values; repeat."
        ),
    ],
    keep: Annotated[
        bool, typer.Option("--keep", help="Make a model of the winner, as `train` does.")
    ] = False,
    out: Out = None,
    resume: Resume = False,
    json: Json = False,
    halvings: Halvings = 0,
) -> None:
    """Try several settings on the same rows, drop the worse half again and again, name the best."""
    from tunefork.cli import show
    from tunefork.workflow.spec import load_project

    project = load_project(spec)
    show.prepare_process()
    from tunefork.workflow.sweep import sweep_project

    with show.TalkSink() as sink:
        result = sweep_project(
            project, over, out=out, resume=resume, keep=keep, halvings=halvings, sink=sink
        )
    if json:
        show.print_json(result)
    else:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tunefork.cli import show
    from tunefork.workflow.sweep_page import COLUMNS, table_rows

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for number, row in enumerate(table_rows(result)):
        table.add_row(*row, style="" if number else "bold")
    console.print(table)
    talk = [f"Curves:       {result['page']}", f"Run the best: tunefork run {result['spec']}"]
    if result["model"] is not None:
        talk.append(f"Talk to it:   tunefork chat {result['model']}")
    for line in talk:
        show.talk.print(line, soft_wrap=True, markup=False)
