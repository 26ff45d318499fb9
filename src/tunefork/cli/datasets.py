"""`tunefork datasets list|show|diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Json

app = typer.Typer(
    help="Your data files, and the versions that runs saw of them.", no_args_is_help=True
)


@app.command("list")
def list_all(json: Json = False) -> None:
    """List all datasets, each with its newest version."""
    from tunefork.cli.listing import print_list
    from tunefork.registry import count_rows, list_datasets, open_registry

    columns = ("name", "version", "rows", "path")
    with open_registry() as registry:
        count_rows(registry)
        with registry.reading() as session:
            print_list("datasets", list_datasets(session), columns, json)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="NAME@NUMBER, or a dataset or its file for the newest version.")
    ],
    json: Json = False,
) -> None:
    """Show a version: its rows and files, what changed before it, and the runs trained on it."""
    from tunefork.cli.listing import print_entry
    from tunefork.registry import count_rows, open_registry, show_dataset

    with open_registry() as registry:
        count_rows(registry)
        with registry.reading() as session:
            print_entry(show_dataset(session, name), json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="NAME@NUMBER, or a dataset for its newest.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    json: Json = False,
) -> None:
    """Compare the rows of two versions."""
    from tunefork.cli import show
    from tunefork.cli.lines import json_line
    from tunefork.registry import diff_datasets, open_registry

    with open_registry() as registry, registry.reading() as session:
        found = diff_datasets(session, registry.objects, before, after)
    if json:
        show.print_json(found)
        return
    rows = found["rows"]
    if rows is None:
        typer.echo("the same" if found["same"] else "not the same; too large to compare by rows")
        return
    typer.echo(f"{rows['added']} rows added, {rows['removed']} removed, {rows['same']} the same")
    for sign, kind in (("+", "added"), ("-", "removed")):
        for row in found[kind]:
            typer.echo(f"{sign} {json_line(row).rstrip()}")
        if rows[kind] > len(found[kind]):
            typer.echo(f"{sign} … and {rows[kind] - len(found[kind])} more")
