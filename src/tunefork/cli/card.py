"""`tunefork card MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.options import Json, RegisteredModel


def card(
    model: RegisteredModel,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file. [default: card.json in the run's folder]"),
    ] = None,
    json: Json = False,
) -> None:
    """Write a model's proof card: what it is made of and how it did, signed."""
    from tunefork.cli import show
    from tunefork.workflow.proof import card_of

    path = card_of(model, out)
    if json:
        show.print_json({"card": str(path)})
        return
    typer.echo(path)
    show.talk.print("Others check it with `tunefork verify`; give them keys/signing.pub too.")
