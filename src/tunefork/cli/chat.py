"""`tunefork chat MODEL`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunefork.cli.options import AnyModel, Json

if TYPE_CHECKING:
    from tunefork.workflow.talk import Conversation

_LEAVE = {"/quit", "/exit"}


def chat(
    model: AnyModel,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="Ask this one question and leave.")
    ] = None,
    json: Json = False,
) -> None:
    """Talk to a model, with its base beside it where it is tuned."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.workflow.talk import Conversation

    conversation = Conversation(model)
    if question is not None:
        _tell(conversation.ask(question), json)
        return
    if sys.stdin.isatty():
        show.talk.print("Ask away. /new starts over, /quit leaves.")
    _talk(conversation, json)


def _talk(conversation: Conversation, json: bool) -> None:
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        text = line.strip()
        if not line or text in _LEAVE:
            return
        if text == "/new":
            conversation.clear()
        elif text:
            _tell(conversation.ask(text), json)


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
