"""`tunefork select FILE --keep N --out FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunefork.cli.check import BaseName, Mapping, parse_map
from tunefork.cli.options import Json


def select(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The data to choose from.")],
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many rows to keep.")],
    out: Annotated[Path, typer.Option("--out", help="The new file, as .jsonl.")],
    map_: Mapping = None,
    base: BaseName = "tiny",
    json: Json = False,
) -> None:
    """Choose the rows that teach most: clean, and together like all of them."""
    mapping = parse_map(map_)
    from tunefork.cli import show
    from tunefork.workflow.check import select as run_select

    with show.TalkSink() as sink:
        result = run_select(
            file,
            keep=keep,
            out=out,
            mapping=mapping,
            base=None if base == "none" else base,
            sink=sink,
        )
    if json:
        show.print_json(result)
        return
    typer.echo(
        f"{result['kept']:,} of {result['clean']:,} clean rows ({result['rows']:,} in all): "
        f"{result['out']}"
    )
