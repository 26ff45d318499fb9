"""`tunefork verify [CARD]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tunefork.cli.options import Json
from tunefork.core.errors import UsageError


def _place(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", help=f"With CARD: {what}, to compare its hash.")


def verify(
    card: Annotated[
        Path | None, typer.Argument(metavar="[CARD]", help="A proof card, to check it alone.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="With CARD: the public key that must have signed it."),
    ] = None,
    model: Annotated[Path | None, _place("model", "the model's folder")] = None,
    base: Annotated[Path | None, _place("base", "the base's folder")] = None,
    data: Annotated[Path | None, _place("data", "the training data")] = None,
    golden: Annotated[Path | None, _place("golden", "the golden questions")] = None,
    json: Json = False,
) -> None:
    """Recompute every hash in the registry, and name what was altered; or check a proof card."""
    places = {"model": model, "base": base, "data": data, "golden": golden}
    if card is not None:
        is_sound = _verify_card(card, key, places, json)
    elif key is not None or any(places.values()):
        raise UsageError(
            "`--key`, `--model`, `--base`, `--data` and `--golden` are for a proof card",
            hint="name the card: `tunefork verify card.json --key …`",
        )
    else:
        is_sound = _verify_registry(json)
    if not is_sound:
        raise typer.Exit(1)


def _verify_card(card: Path, key: str | None, places: dict[str, Path | None], json: bool) -> bool:
    from tunefork.cli import show
    from tunefork.registry import read_key
    from tunefork.workflow.proof import verify_card

    found = verify_card(card, key=read_key(key) if key is not None else None, places=places)
    if json:
        show.print_json(found)
        return bool(found["sound"])
    for each in found["checked"]:
        typer.echo(f"{each['state']:<9}  {each['what']}  {each['detail']}".rstrip())
    whose = {
        "asked for": "the key that was asked for",
        "own": "this home's own key",
        "unknown": f"{found['signed_by']}: whose key this is, only `--key` can tell",
    }
    show.talk.print(
        f"Signed by {whose[found['signer']]}, and not changed since.", soft_wrap=True, markup=False
    )
    show.talk.print(f"Verdict on `{found['model']}`: {found['verdict']}", markup=False)
    return bool(found["sound"])


def _verify_registry(json: bool) -> bool:
    from tunefork.cli import show
    from tunefork.core.units import bytes_text
    from tunefork.registry import open_registry
    from tunefork.registry import verify as verify_registry

    with open_registry() as registry:
        found = verify_registry(registry)
    if json:
        show.print_json(found)
        return bool(found["sound"])
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
    return bool(found["sound"])
