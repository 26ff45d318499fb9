"""`tunefork backup FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.options import Json


def backup(
    file: Annotated[Path, typer.Argument(help="The archive.")],
    restore: Annotated[
        bool,
        typer.Option("--restore", help="Bring it back, into a home folder without a registry."),
    ] = False,
    json: Json = False,
) -> None:
    """Write the registry and all its copies into one archive file, or bring them back."""
    from tunefork.cli import show
    from tunefork.core.files import home
    from tunefork.registry import back_up, open_registry
    from tunefork.registry import restore as bring_back

    if restore:
        found = bring_back(file, home())
        text = f"restored {found['copies']} copies and all rows into {found['home']}"
    else:
        with open_registry() as registry:
            found = back_up(registry, file)
        text = f"wrote {found['file']} with {found['copies']} copies"
    if json:
        show.print_json(found)
    else:
        typer.echo(text)
