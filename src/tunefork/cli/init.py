"""`tunefork init DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.options import Json


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new project's folder.")],
    example: Annotated[
        str | None, typer.Option("--example", help="Copy a complete example, such as `catgpt`.")
    ] = None,
    json: Json = False,
) -> None:
    """Start a project: a spec to fill in, or a complete example."""
    from tunefork.cli import show
    from tunefork.workflow.start import start_project

    result = start_project(folder, example)
    if json:
        show.print_json(result)
        return
    for name in result["files"]:
        typer.echo(name)
    show.talk.print(f"Next: {result['next']}", soft_wrap=True, markup=False)
