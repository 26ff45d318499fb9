"""`tunefork replay RUN`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Json, Out


def replay(
    run: Annotated[str, typer.Argument(help="A run's name or folder.")],
    out: Out = None,
    json: Json = False,
) -> None:
    """Train a run again from its stored spec and data, and compare the results bit for bit."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.replay import replay as replay_run

    with show.TalkSink() as sink:
        found = replay_run(run, out=out, sink=sink)
    if json:
        show.print_json(found)
    else:
        for file in found["files"]:
            mark = "same " if file["then"] == file["now"] else "OTHER"
            typer.echo(f"{mark}  {file['name']}")
        for difference in found["differences"]:
            show.talk.print(f"Not as it was: {difference}", markup=False)
        same = "the same, bit for bit" if found["matches"] else "not the same"
        show.talk.print(f"The result is {same}.")
    if not found["matches"]:
        raise typer.Exit(1)
