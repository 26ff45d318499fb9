"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SpecPath = Annotated[
    Path,
    typer.Argument(metavar="SPEC", help="The spec, or the folder with tunefork.yaml in it."),
]
_ANY_MODEL = (
    "A registered model, an alias, a run's name or folder, an adapter or model folder, "
    "`tiny`, or a hub id"
)
AnyModel = Annotated[str, typer.Argument(metavar="MODEL", help=f"{_ANY_MODEL}.")]
ModelHereOrThere = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help=f"{_ANY_MODEL}; with `--server` a name that the server knows."
    ),
]
RegisteredModel = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A registered model, an alias, or a run's name or folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of the run. [default: one under $TUNEFORK_HOME/runs]"),
]
KeyVariable = Annotated[
    str,
    typer.Option("--key-env", metavar="NAME", help="The environment variable with the key."),
]
ServerUrl = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="A server that speaks OpenAI's API."),
]
# Set by `cli.supervise` when it starts a command again; nothing for people.
Halvings = Annotated[int, typer.Option("--halvings", min=0, hidden=True)]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on where an interrupted run of this spec stopped."),
]
