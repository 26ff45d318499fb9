"""`tunefork serve`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from tunefork.core.errors import UsageError
from tunefork.core.events import Event, Noted, Warned

if TYPE_CHECKING:
    from tunefork.workflow.serve import OtherEngine


def serve(
    base: Annotated[
        list[str] | None,
        typer.Option("--base", help="A base to load; jobs may tune it. [default: tiny]"),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option("--map", help="NAME=BASE: a name that stands for a base, as OpenAI's do."),
    ] = None,
    embedder: Annotated[
        list[str] | None, typer.Option("--embedder", help="A model that makes embeddings.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Jobs that run at once.")] = 1,
    rows: Annotated[int, typer.Option("--rows", min=4, help="Answers at once.")] = 32,
    engine: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--engine", metavar="vllm URL", help="Let a vLLM draw the answers; see docs/vllm.md."
        ),
    ] = None,
    engine_key_env: Annotated[
        str, typer.Option("--engine-key-env", help="The environment variable with its key.")
    ] = "VLLM_API_KEY",
    adapters: Annotated[
        int, typer.Option("--adapters", min=1, help="Adapters that it holds at once.")
    ] = 8,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", help="The environment variable with a key of your own."),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option("--share", help="A registered model or alias that every project may ask."),
    ] = None,
    drain: Annotated[
        int, typer.Option("--drain", min=0, help="Seconds that answers have left on SIGTERM.")
    ] = 30,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Write the log as one JSON object a line.")
    ] = False,
    log_content: Annotated[
        bool, typer.Option("--log-content", help="Let the log tell what is asked and answered.")
    ] = False,
) -> None:
    """Serve models and fine-tuning jobs over HTTP, in OpenAI's shapes."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.serving.listen import Place, listen
    from tunefork.serving.logs import set_up
    from tunefork.workflow.serve import ServeSettings, serving

    settings = ServeSettings(
        bases=tuple(base or ("tiny",)),
        names=_pairs(map or []),
        embedders=tuple(embedder or ()),
        jobs=jobs,
        rows=rows,
        engine=_engine(engine, engine_key_env, adapters),
        key_variable=api_key_env,
        shared=tuple(share or ()),
        host=host,
        logs_content=log_content,
    )
    set_up(as_json=log_json, tells_content=log_content)
    with serving(settings, _log) as app:
        listen(app, Place(host, port, drain), lambda place: _log(Noted(f"Serving at {place}")))


def _log(event: Event) -> None:
    """Tell of the start as of everything else."""
    if isinstance(event, Noted):
        logging.getLogger("tunefork").info(event.message)
    elif isinstance(event, Warned):
        logging.getLogger("tunefork").warning(event.message)


def _engine(given: tuple[str, str] | None, key_variable: str, adapters: int) -> OtherEngine | None:
    from tunefork.workflow.serve import OtherEngine
    from tunefork.workflow.service import address_of

    if given is None:
        return None
    name, url = given
    if name != "vllm":
        raise UsageError(
            f"there is no engine `{name}`", hint="write --engine vllm http://HOST:PORT"
        )
    return OtherEngine(address_of(url, key_variable), adapters)


def _pairs(given: list[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, is_there, base = each.partition("=")
        if not (name and is_there and base):
            raise UsageError(f"`--map {each}` is no NAME=BASE", hint="write --map gpt-4o-mini=tiny")
        found[name] = base
    return found
