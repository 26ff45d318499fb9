"""`tunefork promote MODEL ALIAS` and `tunefork rollback ALIAS`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tunefork.cli.options import Json

_Alias = Annotated[str, typer.Argument(help="The alias, such as `production`.")]
_Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in the history.")]


def promote(
    model: Annotated[str, typer.Argument(help="A model's name, an alias, or its run's folder.")],
    alias: _Alias,
    reason: _Reason = None,
    json: Json = False,
) -> None:
    """Let an alias stand for a model from now on."""
    from tunefork.cli import show
    from tunefork.registry import find_model, last_evaluation, open_registry
    from tunefork.registry import promote as promote_model

    with open_registry() as registry, registry.writing() as session:
        found_model = find_model(session, model)
        found = promote_model(session, found_model, alias, reason)
        last = last_evaluation(session, found_model.name)
    found["verdict"] = last.verdict if last else None
    if found["verdict"] != "ship":
        said = (
            f"its verdict is `{last.verdict}`" if last else "it was never measured against its base"
        )
        show.talk.print(f"warning: {said}; `tunefork rollback {alias}` undoes this")
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
