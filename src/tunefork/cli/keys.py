"""`tunefork keys`: who may ask the server, and for how much."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, cast, get_args

import typer

from tunefork.cli.options import Json
from tunefork.core.errors import UsageError

app = typer.Typer(help="Keys to the server, and the projects they open.", no_args_is_help=True)
_KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `keys list` shows it.")]
_Requests = Annotated[
    int | None, typer.Option("--requests", min=0, help="Requests a minute; 0 for no limit.")
]
_Tokens = Annotated[
    int | None, typer.Option("--tokens", min=0, help="Tokens a minute; 0 for no limit.")
]


@app.command()
def create(
    project: Annotated[
        str, typer.Option("--project", help="What it opens; `local` is your own.")
    ] = "local",
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="read, infer, tune or admin. [default: all but admin]"),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", help="How long it is good, such as 12h or 90d.")
    ] = None,
    requests: _Requests = None,
    tokens: _Tokens = None,
    json: Json = False,
) -> None:
    """Make a key. It is shown this once; the server keeps a hash of it."""
    from tunefork.core.units import parse_duration
    from tunefork.serving.callers import USUAL_SCOPES, Scope
    from tunefork.serving.keys import NewKey, PerMinute, create_key
    from tunefork.serving.store import shared_store, store_folder

    for each in scope or []:
        if each not in get_args(Scope):
            known = ", ".join(get_args(Scope))
            raise UsageError(f"`{each}` is no scope", hint=f"there are {known}")
    wanted = NewKey(
        project,
        name,
        cast("list[Scope]", scope) if scope else USUAL_SCOPES,
        parse_duration(expires) if expires is not None else None,
        PerMinute(requests or None, tokens or None),
    )
    with shared_store(store_folder()) as store:
        _print_new(create_key(store, wanted), json)


@app.command("list")
def list_all(json: Json = False) -> None:
    """List all keys, the newest first."""
    from tunefork.cli.listing import print_list
    from tunefork.serving.keys import list_keys
    from tunefork.serving.store import shared_store, store_folder

    with shared_store(store_folder()) as store:
        found = list_keys(store)
    columns = ("id", "name", "project", "scopes", "status", "expires", "requests", "tokens")
    print_list("keys", found if json else [_dated(each) for each in found], columns, json)


@app.command()
def rotate(
    key: _KeyId,
    grace: Annotated[
        str, typer.Option("--grace", help="How long the old one is still good, such as 1h.")
    ] = "0s",
    json: Json = False,
) -> None:
    """Give a key another secret. The old one stops within a second, or after `--grace`."""
    from tunefork.core.units import parse_duration
    from tunefork.serving.keys import rotate_key
    from tunefork.serving.store import shared_store, store_folder

    seconds = parse_duration(grace)
    with shared_store(store_folder()) as store:
        _print_new(rotate_key(store, key, seconds), json)


@app.command()
def revoke(key: _KeyId, json: Json = False) -> None:
    """Let a key open nothing any more, within a second. What it made stays its project's."""
    from tunefork.cli import show
    from tunefork.serving.keys import revoke_key
    from tunefork.serving.store import shared_store, store_folder

    with shared_store(store_folder()) as store:
        found = revoke_key(store, key)
    if json:
        show.print_json(found)
    else:
        typer.echo(f"revoked {found['id']}")


@app.command()
def project(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project's name.")],
    organisation: Annotated[
        str | None, typer.Option("--organisation", help="Whose it is. [default: its own name]")
    ] = None,
    requests: _Requests = None,
    tokens: _Tokens = None,
    json: Json = False,
) -> None:
    """Make a project, or change its limits; they count over all of its keys."""
    from tunefork.cli.listing import print_entry
    from tunefork.serving.keys import PerMinute, set_project
    from tunefork.serving.store import shared_store, store_folder

    with shared_store(store_folder()) as store:
        found = set_project(store, name, organisation, PerMinute(requests, tokens))
    print_entry(found, json)


@app.command()
def projects(json: Json = False) -> None:
    """List all projects."""
    from tunefork.cli.listing import print_list
    from tunefork.serving.keys import list_projects
    from tunefork.serving.store import shared_store, store_folder

    with shared_store(store_folder()) as store:
        found = list_projects(store)
    columns = ("id", "name", "organisation", "keys", "requests", "tokens")
    print_list("projects", found, columns, json)


@app.command()
def forget(
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False, json: Json = False
) -> None:
    """Remove every key: a server at 127.0.0.1 answers without one again. Projects stay."""
    from tunefork.cli import show
    from tunefork.serving.keys import forget_keys
    from tunefork.serving.store import shared_store, store_folder

    if not yes:
        raise UsageError("this removes every key", hint="say `--yes` to do it")
    with shared_store(store_folder()) as store:
        count = forget_keys(store)
    if json:
        show.print_json({"forgotten": count})
    else:
        typer.echo(f"forgot {count} keys")


def _dated(found: dict[str, Any]) -> dict[str, Any]:
    end = found["expires"]
    if end is None:
        return found
    local = datetime.datetime.fromtimestamp(end).isoformat(" ", "minutes")
    return {**found, "expires": local}


def _print_new(found: dict[str, Any], json: bool) -> None:
    from tunefork.cli import show

    if json:
        show.print_json(found)
        return
    typer.echo(found["key"])
    show.talk.print(
        f"It is {found['id']} of project {found['project']}. It is not shown again.",
        markup=False,
        highlight=False,
    )
