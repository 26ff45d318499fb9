"""`tunefork runs list|show|diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Json

app = typer.Typer(help="Trainings that ended.", no_args_is_help=True)


@app.command("list")
def list_all(json: Json = False) -> None:
    """List all runs, the newest first."""
    from tunefork.cli.listing import print_list
    from tunefork.registry import list_runs, open_registry

    columns = ("name", "base", "strategy", "validation_loss", "path")
    with open_registry() as registry, registry.reading() as session:
        print_list("runs", list_runs(session), columns, json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A run's name or folder.")], json: Json = False
) -> None:
    """Show all of a run: spec, base, data, environment and result."""
    from tunefork.cli.listing import print_entry
    from tunefork.registry import count_rows, open_registry, show_run

    with open_registry() as registry:
        count_rows(registry)
        with registry.reading() as session:
            print_entry(show_run(session, name), json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A run.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    json: Json = False,
) -> None:
    """Say what differs between two runs: what went in, and what came out."""
    from tunefork.cli.listing import print_diff
    from tunefork.registry import diff_runs, open_registry

    with open_registry() as registry, registry.reading() as session:
        print_diff(diff_runs(session, before, after), json)
