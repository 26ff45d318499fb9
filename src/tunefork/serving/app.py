"""The application: routes, gates before them, and errors in one shape."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from tunefork import __version__
from tunefork.serving import (
    chat,
    completions,
    embeddings,
    evals,
    files,
    graders,
    health,
    job_events,
    job_results,
    jobs,
    metrics,
    models,
    responses,
)
from tunefork.serving.context import Context
from tunefork.serving.errors import install
from tunefork.serving.guard import Access, Guard
from tunefork.serving.limits import BodyLimit
from tunefork.serving.logs import tell_request
from tunefork.serving.metrics import Metrics
from tunefork.serving.ready import Readiness
from tunefork.serving.watch import Watch

_ROUTERS = (
    models.router,
    chat.router,
    completions.router,
    responses.router,
    embeddings.router,
    files.router,
    jobs.router,
    job_events.router,
    job_results.router,
    graders.router,
    evals.router,
    health.router,
    metrics.router,
)


def create_app(context: Context, access: Access, *, logs_content: bool = False) -> FastAPI:
    """Return the application.

    Args:
        context: The parts of the server.
        access: Who may ask.
        logs_content: Whether the log tells what requests and answers say.
    """
    app = _App(
        title="tunefork",
        version=__version__,
        description="Fine-tuning and serving on your own machine, in OpenAI's shapes.",
        docs_url=None,  # it would fetch its scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.state.readiness = readiness = Readiness(context)
    app.state.metrics = counted = Metrics(context, readiness)
    install(app)
    for router in _ROUTERS:
        app.include_router(router)
    app.add_middleware(BodyLimit, limits=context.limits)
    keyring, meters = context.keyring, context.meters
    # It reads no body.
    app.add_middleware(Guard, access=access, keyring=keyring, meters=meters)
    app.add_middleware(
        Watch,
        begin=counted.begin,
        tell=(counted.tell, tell_request),
        keeps_content=logs_content,
    )
    return app


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the document without the answer to invalid requests that FastAPI would give."""
        document = super().openapi()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document
