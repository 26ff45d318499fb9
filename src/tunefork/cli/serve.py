"""`tunefork serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.core.errors import UsageError

# Longer than a client waits between two requests: one that comes as its connection ends is lost.
_KEEP_ALIVE_S = 180


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
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", help="The environment variable that holds the key."),
    ] = None,
) -> None:
    """Serve models and fine-tuning jobs over HTTP, in OpenAI's shapes."""
    from tunefork.cli import show

    show.prepare_process()
    import uvicorn

    from tunefork.serving.guard import check_address
    from tunefork.workflow.serve import ServeSettings, serving

    settings = ServeSettings(
        bases=tuple(base or ("tiny",)),
        names=_pairs(map or []),
        embedders=tuple(embedder or ()),
        jobs=jobs,
        rows=rows,
        key_variable=api_key_env,
    )
    check_address(host, settings.access)
    with show.TalkSink() as sink, serving(settings, sink) as app:
        config = uvicorn.Config(
            app,
            host,
            port,
            log_level="warning",
            timeout_graceful_shutdown=10,
            timeout_keep_alive=_KEEP_ALIVE_S,
            server_header=False,
        )
        server = uvicorn.Server(config)
        listening = config.bind_socket()
        place = f"http://{host}:{listening.getsockname()[1]}/v1"
        show.talk.print(f"Serving at {place}", soft_wrap=True, markup=False)
        server.run(sockets=[listening])


def _pairs(given: list[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, is_there, base = each.partition("=")
        if not (name and is_there and base):
            raise UsageError(f"`--map {each}` is no NAME=BASE", hint="write --map gpt-4o-mini=tiny")
        found[name] = base
    return found
