"""`tunefork promote MODEL ALIAS` and `tunefork rollback ALIAS`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tunefork.cli.options import Json, RegisteredModel

_Alias = Annotated[str, typer.Argument(help="The alias, such as `production`.")]
_Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the history.")]


def promote(
    model: RegisteredModel,
    alias: _Alias,
    reason: _Reason = None,
    force: Annotated[
        str | None,
        typer.Option(
            "--force",
            metavar="REASON",
            help="Promote it though the gate did not say `ship`; the reason is kept.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Let an alias stand for a model from now on; the gate must have said `ship`."""
    from tunefork.core.errors import UsageError
    from tunefork.registry import find_model, open_registry
    from tunefork.registry import promote as promote_model

    if force is not None and not force.strip():
        raise UsageError("`--force` needs a reason", hint="say why; it is kept in the history")
    if force is not None and reason is not None:
        raise UsageError("give the reason once", hint="`--force REASON` keeps it as well")
    with open_registry() as registry, registry.writing() as session:
        found = promote_model(
            session,
            find_model(session, model),
            alias,
            force or reason,
            is_forced=force is not None,
        )
    _tell(found, json)


def rollback(alias: _Alias, reason: _Reason = None, json: Json = False) -> None:
    """Let an alias stand again for the model before."""
    from tunefork.registry import open_registry
    from tunefork.registry import rollback as roll_back

    with open_registry() as registry, registry.writing() as session:
        found = roll_back(session, alias, reason)
    _tell(found, json)


def _tell(found: dict[str, Any], json: bool) -> None:
    from tunefork.cli import show

    if json:
        show.print_json(found)
    elif found["before"] == found["model"]:
        typer.echo(f"{found['alias']} stands for {found['model']} already")
    else:
        was = f", and no longer for {found['before']}" if found["before"] else ""
        typer.echo(f"{found['alias']} stands for {found['model']} now{was}")
