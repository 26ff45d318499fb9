"""`tunefork rescue openai DIR`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunefork.cli.options import Json, KeyVariable
from tunefork.core.errors import UsageError

if TYPE_CHECKING:
    from tunefork.workflow.rescue_answers import Estimate

app = typer.Typer(
    help="Bring a fine-tuned model's makings home before it is switched off.",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keep the service's name a word of its own."""


@app.command()
def openai(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder.")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="The fine-tuned model, or its job. [default: the only one]"),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="The base to tune in its place.")] = "tiny",
    answers: Annotated[
        int, typer.Option("--answers", min=0, help="Prompts to ask the model at most; 0: none.")
    ] = 1000,
    price_in: Annotated[
        float | None, typer.Option("--price-in", min=0, help="Of a million tokens sent.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option("--price-out", min=0, help="Of a million tokens received.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", help="Where the service is.")
    ] = "https://api.openai.com/v1",
    key_env: KeyVariable = "OPENAI_API_KEY",
    yes: Annotated[bool, typer.Option("--yes", help="Use the network without asking.")] = False,
    json: Json = False,
) -> None:
    """Bring files, settings and answers of a fine-tuned model into a project, ready for `run`."""
    from tunefork.workflow.service import address_of

    address = address_of(url, key_env)
    if not _agree(f"This asks {address.url} for your jobs, their files and what they say.", yes):
        raise typer.Exit(1)
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.rescue import RescueSettings, rescue
    from tunefork.workflow.service import Service

    def agree(needed: Estimate) -> bool:
        return _agree(_estimate_text(needed, needed.cost(price_in, price_out)), yes)

    settings = RescueSettings(folder, model, base, answers)
    with show.TalkSink() as sink, contextlib.closing(Service(address, sink)) as service:
        result = rescue(service, settings, agree, sink)
    if json:
        show.print_json(result)
    else:
        _tell(result)


def _agree(what: str, is_agreed: bool) -> bool:
    """Say what is about to be asked of the network, and whether the user wants it.

    Raises:
        UsageError: There is nobody to ask.
    """
    from tunefork.cli import show

    show.talk.print(what, soft_wrap=True, markup=False)
    if is_agreed:
        return True
    if not sys.stdin.isatty():
        raise UsageError("the network is not used without being asked for", hint="add `--yes`")
    return typer.confirm("Go on?", err=True)


def _estimate_text(needed: Estimate, cost: float | None) -> str:
    from tunefork.core.units import count_text

    there = f" ({needed.recorded:,} are recorded already)" if needed.recorded else ""
    price = f"; {cost:,.2f} at these prices" if cost is not None else ""
    return (
        f"Recording answers: {needed.questions:,} questions{there}, about "
        f"{count_text(needed.tokens_in)} tokens to send and {count_text(needed.tokens_out)} to "
        f"receive{price}. The service counts them as any other use."
    )


def _tell(result: dict[str, Any]) -> None:
    from tunefork.cli import show

    lines = [
        f"{result['model']}: {result['recorded']:,} answers recorded, {result['asked']:,} now; "
        f"{result['golden']:,} golden questions and {result['validation']:,} validation rows of "
        "them.",
        f"Next: read {result['spec']}, then {result['next']}",
    ]
    show.talk.print("\n".join(lines), soft_wrap=True, markup=False)
