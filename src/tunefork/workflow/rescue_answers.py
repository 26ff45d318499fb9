"""What a model answers to the prompts of its own rows, asked once and kept in `answers.jsonl`.

One line for each prompt, known by its hash. A kill loses what was on its way; what is written is
not asked again, whatever follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError
from tunefork.core.events import Progress, Sink, Warned
from tunefork.core.files import writing
from tunefork.core.hashing import hash_json
from tunefork.data.convert.shapes import turns
from tunefork.data.example import Example, Preference, Prompt, Row
from tunefork.data.recognise import scan_rows
from tunefork.workflow.json_lines import as_line, read_lines
from tunefork.workflow.service import NotTaken, NotThere, Service

_AT_ONCE = 4
_LETTERS_PER_TOKEN = 4  # of English text, about
_USUAL_ANSWER = 100  # tokens, where the rows hold none


@dataclass(frozen=True)
class Asking:
    """A prompt to be asked.

    Attributes:
        key: Its hash.
        messages: The conversation up to the answer.
        tools: What the model may call.
        is_held_out: It is of the validation rows.
        n_letters: Of prompt and of the row's own answer.
    """

    key: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...]
    is_held_out: bool
    n_letters: tuple[int, int]


@dataclass(frozen=True)
class Estimate:
    """What asking would take, before it is done: tokens are counted as letters over four."""

    questions: int
    recorded: int
    tokens_in: int
    tokens_out: int

    def cost(self, price_in: float | None, price_out: float | None) -> float | None:
        """Return what it costs at prices per million tokens; None where they are not known."""
        if price_in is None or price_out is None:
            return None
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


def askings(validation: Path | None, training: Path, most: int) -> list[Asking]:
    """Return the prompts of the rows, those of the validation rows first, each once.

    Raises:
        DataError: The training rows cannot be read at all.
    """
    found: dict[str, Asking] = {}
    for path, is_held_out in ((validation, True), (training, False)):
        for row in scan_rows(path) if path is not None else ():
            asking = None if isinstance(row, DataError) else _asking(row, is_held_out)
            if asking is not None:
                found.setdefault(asking.key, asking)
    return list(found.values())[:most]


def _asking(row: Row, is_held_out: bool) -> Asking | None:
    if isinstance(row, Example):
        prompt, answer, tools = row.prompt, row.answer, row.tools
    elif isinstance(row, Preference):
        prompt, answer, tools = row.prompt, row.chosen[-1].content, row.tools
    elif isinstance(row, Prompt):
        prompt, answer, tools = row.messages, "x" * _USUAL_ANSWER * _LETTERS_PER_TOKEN, row.tools
    else:
        return None
    messages = turns(tuple(prompt))
    for message in messages:
        message.pop("weight", None)  # only training knows it
    n_letters = sum(len(turn.content) for turn in prompt), len(answer)
    key = hash_json([messages, list(tools)])
    return Asking(key, tuple(messages), tuple(tools), is_held_out, n_letters)


def estimate(wanted: Sequence[Asking], known: Mapping[str, Any]) -> Estimate:
    """Return what asking those that are not known yet would take."""
    new = [each for each in wanted if each.key not in known]
    letters_in, letters_out = (sum(each.n_letters[side] for each in new) for side in (0, 1))
    return Estimate(
        len(new),
        len(wanted) - len(new),
        letters_in // _LETTERS_PER_TOKEN,
        letters_out // _LETTERS_PER_TOKEN,
    )


def recorded(path: Path) -> dict[str, dict[str, Any]]:
    """Return the answers that are written down, by the hash of their prompt."""
    return {row["key"]: row for row in read_lines(path) if isinstance(row.get("key"), str)}


def record(service: Service, model: str, wanted: Iterable[Asking], path: Path, sink: Sink) -> int:
    """Ask what is not written down yet, and write it down; return how many were asked.

    Raises:
        RemoteError: The server stays away, or does not let us ask. What was answered is kept.
    """
    known = recorded(path)
    waiting = [each for each in wanted if each.key not in known]
    total, done = len(waiting), 0
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    with file, ThreadPoolExecutor(_AT_ONCE) as pool:
        file.write("\n")  # a kill may have cut the last line short
        under_way: set[Future[dict[str, Any]]] = set()
        try:
            while waiting or under_way:
                while waiting and len(under_way) < _AT_ONCE:
                    under_way.add(pool.submit(_ask, service, model, waiting.pop(0)))
                ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                lines = _lines(ready)
                with writing(path):
                    file.write("".join(lines))
                    file.flush()
                done += len(lines)
                _raise_first(ready)
                sink(Progress("recording answers", done, total))
        except NotThere as error:
            sink(Warned(f"`{model}` does not answer any more: {error.message}"))
        finally:
            with writing(path):  # what was asked already comes to nothing else
                file.write("".join(_lines(wait(under_way).done)))
    return done


def _lines(ready: Iterable[Future[dict[str, Any]]]) -> list[str]:
    return [as_line(each.result()) for each in ready if each.exception() is None]


def _raise_first(ready: Iterable[Future[dict[str, Any]]]) -> None:
    for each in ready:
        each.result()


def _ask(service: Service, model: str, asking: Asking) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model, "messages": list(asking.messages), "temperature": 0}
    if asking.tools:
        body["tools"] = list(asking.tools)
    try:
        answer = service.post("/chat/completions", body)
        choice = answer["choices"][0]
        message = choice["message"]
        said = {
            "content": message.get("content"),
            "tool_calls": message.get("tool_calls") or [],
            "finish_reason": choice.get("finish_reason"),
            "usage": answer.get("usage"),
        }
    except NotTaken as error:  # it would be refused again
        said = {"refused": error.message}
    except (LookupError, TypeError, AttributeError):
        said = {"refused": "the reply is no chat completion"}
    return {"key": asking.key, "messages": list(asking.messages), **said}
