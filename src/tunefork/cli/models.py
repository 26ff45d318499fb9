"""`tunefork models list|show|diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Json, RegisteredModel

app = typer.Typer(help="Models, each a base and what was made of it.", no_args_is_help=True)


@app.command("list")
def list_all(json: Json = False) -> None:
    """List all models, the newest first."""
    from tunefork.cli.listing import print_list
    from tunefork.registry import list_models, open_registry

    columns = ("name", "base", "verdict", "score", "aliases")
    with open_registry() as registry, registry.reading() as session:
        print_list("models", list_models(session), columns, json)


@app.command()
def show(
    model: RegisteredModel,
    json: Json = False,
) -> None:
    """Show what a model is made of, what was measured, and the history of its aliases."""
    from tunefork.cli.listing import print_entry
    from tunefork.registry import open_registry, show_model

    with open_registry() as registry, registry.reading() as session:
        print_entry(show_model(session, model), json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A model.")],
    after: Annotated[str, typer.Argument(help="The other one.")],
    json: Json = False,
) -> None:
    """Say what differs between two models: what went in, and what came out."""
    from tunefork.cli.listing import print_diff
    from tunefork.registry import diff_models, open_registry

    with open_registry() as registry, registry.reading() as session:
        print_diff(diff_models(session, before, after), json)
