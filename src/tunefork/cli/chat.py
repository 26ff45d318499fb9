"""`tunefork chat MODEL`, and `tunefork chat --server URL --model NAME`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunefork.cli.options import Json, KeyVariable, ModelHereOrThere, ServerUrl
from tunefork.core.errors import UsageError

if TYPE_CHECKING:
    from tunefork.workflow.remote_talk import RemoteConversation

_LEAVE = {"/quit", "/exit"}


def chat(
    model: ModelHereOrThere = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="Ask this one question and leave.")
    ] = None,
    server: ServerUrl = None,
    name: Annotated[str | None, typer.Option("--model", help="The same as MODEL.")] = None,
    key_env: KeyVariable = "OPENAI_API_KEY",
    json: Json = False,
) -> None:
    """Talk to a model, with its base beside it where it is tuned; or to one of a server."""
    if model is not None and name is not None:
        raise UsageError("the model is named twice", hint="give MODEL or `--model`")
    model = model or name
    if server is not None:
        _chat_there(server, key_env, model, question, json)
        return
    if model is None:
        raise UsageError("no model is named", hint="write `tunefork chat MODEL`")
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.talk import Conversation

    conversation = Conversation(model)
    _talk(question, lambda text: _tell(conversation.ask(text), json), conversation.clear)


def _chat_there(
    server: str, key_variable: str, model: str | None, question: str | None, json: bool
) -> None:
    from tunefork.core.events import no_sink
    from tunefork.workflow.remote_talk import RemoteConversation, named_model
    from tunefork.workflow.service import Service, address_of

    with contextlib.closing(Service(address_of(server, key_variable), no_sink)) as service:
        name = named_model(service, model)
        conversation = RemoteConversation(service, name)
        _talk(question, lambda text: _stream(conversation, name, text, json), conversation.clear)


def _talk(question: str | None, ask: Callable[[str], None], clear: Callable[[], None]) -> None:
    """Ask one question, or each that is typed."""
    if question is not None:
        ask(question)
        return
    from tunefork.cli import show

    if sys.stdin.isatty():
        show.talk.print("Ask away. /new starts over, /quit leaves.")
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text in _LEAVE:
            return
        if text == "/new":
            clear()
        elif text:
            ask(text)


def _stream(conversation: RemoteConversation, model: str, question: str, json: bool) -> None:
    from tunefork.cli import show

    pieces = []
    for piece in conversation.ask(question):
        pieces.append(piece)
        if not json:
            typer.echo(piece, nl=False)
    if json:
        answer = "".join(pieces)
        show.print_json({"model": model, "question": question, "answer": answer, "base": None})
    else:
        typer.echo()


def _tell(answers: dict[str, Any], json: bool) -> None:
    from tunefork.cli import show

    if json:
        show.print_json(answers)
        return
    if answers["base"] is not None:
        typer.echo(f"base   {answers['base']}")
        typer.echo(f"tuned  {answers['answer']}")
    else:
        typer.echo(answers["answer"])
