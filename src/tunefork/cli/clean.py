"""`tunefork gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Json


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    cache_days: Annotated[
        int, typer.Option("--cache-days", min=0, help="Drop cached tokens unused for so long.")
    ] = 30,
    json: Json = False,
) -> None:
    """Free the space of copies that nothing refers to, and of old cached tokens."""
    from tunefork.cli import show
    from tunefork.core.units import bytes_text
    from tunefork.registry import clean, open_registry

    with open_registry() as registry:
        found = clean(registry, is_dry=dry_run, cache_days=cache_days)
    if json:
        show.print_json(found)
        return
    copies, caches = len(found["copies"]), len(found["caches"])
    typer.echo(
        f"{'would free' if dry_run else 'freed'} {bytes_text(found['freed_bytes'])}: "
        f"{copies} unreferenced copies ({bytes_text(found['copies_bytes'])}), "
        f"{caches} old cache entries ({bytes_text(found['caches_bytes'])})"
    )
