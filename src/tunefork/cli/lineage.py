"""`tunefork lineage MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.options import Json, RegisteredModel


def lineage(
    model: RegisteredModel,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write it as a picture into this file, too.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what a model was made from: base, data, settings, seed, code and environment."""
    from tunefork.cli import show
    from tunefork.core.files import write_text
    from tunefork.registry import count_rows, lineage_picture, lineage_text, open_registry
    from tunefork.registry import lineage as find_lineage

    with open_registry() as registry:
        count_rows(registry)
        with registry.reading() as session:
            found = find_lineage(session, model)
    if svg is not None:
        write_text(svg, lineage_picture(found) + "\n")
    if json:
        show.print_json(found)
    else:
        typer.echo(lineage_text(found))
