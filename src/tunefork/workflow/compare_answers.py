"""What a rung answered, kept batch by batch: who was killed goes on from the answers it has.

Answers lie in `$TUNEFORK_HOME/cache/answers/KEY`, where KEY is a hash of all that decides them:
model, prompt, what is looked up, decoding, questions and code. So they are never stale, and asking
the same again costs nothing. Batches are cut alike each time, so that they hold the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tunefork.core.events import Progress, Sink
from tunefork.core.files import cache_folder, read_json, write_json
from tunefork.core.hashing import hash_json
from tunefork.data import Message

BATCH = 64  # conversations answered together
_LATENCY_SECONDS = 1.0  # to spend on questions asked one at a time, for each rung
_LATENCY_LEAST, _LATENCY_MOST = 3, 20  # of them


@dataclass(frozen=True)
class Said:
    """An answer; numbers of tokens are None where its server does not tell."""

    text: str
    ended: str
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True)
class Collected:
    """All answers in the order of the questions, and how long they took."""

    said: tuple[Said, ...]
    seconds: float
    latencies: tuple[float, ...]  # of questions asked one at a time, in seconds


Conversation = Sequence[Message]
AskBatch = Callable[[Sequence[Conversation]], list[Said]]


@dataclass(frozen=True)
class Asking:
    """How to ask one rung.

    Attributes:
        what: Of the progress: `tuned: golden questions`.
        key: All that decides the answers but the conversations, as plain data.
        ask: Answers conversations together.
        batch: How many at most.
        is_timed_alone: Whether each answer is timed by itself, so that none is asked twice.
    """

    what: str
    key: Any
    ask: AskBatch
    batch: int = BATCH
    is_timed_alone: bool = False


def collect(asking: Asking, conversations: Sequence[Conversation], sink: Sink) -> Collected:
    """Ask all conversations, but those whose answers are kept."""
    turns = [[(turn.role, turn.content) for turn in each] for each in conversations]
    key = hash_json([asking.key, turns, asking.batch]).removeprefix("sha256:")[:32]
    folder = cache_folder() / "answers" / key
    said: list[Said] = []
    seconds: list[float] = []
    for number, begin in enumerate(range(0, len(conversations), asking.batch)):
        path = folder / f"{number:04d}.json"
        if not path.is_file():
            part = conversations[begin : begin + asking.batch]
            start = time.perf_counter()
            found = asking.ask(part)
            took = time.perf_counter() - start
            write_json(path, {"seconds": took, "answers": [asdict(each) for each in found]})
        kept = read_json(path)
        said += [Said(**each) for each in kept["answers"]]
        seconds.append(kept["seconds"])
        sink(Progress(asking.what, len(said), len(conversations)))
    if asking.is_timed_alone:
        return Collected(tuple(said), sum(seconds), tuple(seconds))
    path = folder / "latency.json"
    if not path.is_file():
        write_json(path, {"seconds": _latencies(asking.ask, conversations)})
    return Collected(tuple(said), sum(seconds), tuple(read_json(path)["seconds"]))


def kept(key: Any, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was measured under a key before, or measure it and keep it."""
    name = hash_json(key).removeprefix("sha256:")[:32]
    path = cache_folder() / "answers" / f"{name}.json"
    if not path.is_file():
        write_json(path, measure())
    return read_json(path)


def _latencies(ask: AskBatch, conversations: Sequence[Conversation]) -> list[float]:
    """Time questions one at a time, spread over all of them, until the time for it is spent."""
    step = max(1, len(conversations) // _LATENCY_MOST)
    found: list[float] = []
    for each in conversations[::step][:_LATENCY_MOST]:
        if len(found) >= _LATENCY_LEAST and sum(found) >= _LATENCY_SECONDS:
            break
        start = time.perf_counter()
        ask([each])
        found.append(time.perf_counter() - start)
    return found
