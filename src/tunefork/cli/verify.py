"""`tunefork verify`."""

from __future__ import annotations

import typer

from tunefork.cli.options import Json


def verify(json: Json = False) -> None:
    """Recompute every hash in the registry, and name what was altered."""
    from tunefork.cli import show
    from tunefork.core.units import bytes_text
    from tunefork.registry import open_registry
    from tunefork.registry import verify as verify_registry

    with open_registry() as registry:
        found = verify_registry(registry)
    if json:
        show.print_json(found)
    else:
        for each in found["damage"]:
            typer.echo(f"{each['kind']}  {each['name']}: {each['problem']}")
        checked = found["checked"]
        show.talk.print(
            f"{checked['rows']} rows, {checked['copies']} copies and {checked['files']} files "
            f"checked, {bytes_text(checked['bytes'])}: "
            + ("all as written" if found["sound"] else "DAMAGED")
        )
        if found["files_skipped"]:
            show.talk.print("Files were not checked: damaged rows cannot tell what they should be.")
    if not found["sound"]:
        raise typer.Exit(1)
