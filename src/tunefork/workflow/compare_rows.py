"""The user's own rows as conversations: examples to show, and held-out ones to choose by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.errors import DataError
from tunefork.data import Example, Message
from tunefork.data.conversations import conversations
from tunefork.data.example import Kind
from tunefork.data.recognise import scan_kind
from tunefork.workflow.compare_search import sample
from tunefork.workflow.look_up import Pool
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Project

_MOST_EXAMPLES = 2_000  # to choose from: more make a bundle large and answers hardly better
_KINDS: tuple[Kind, ...] = ("chat", "preference", "labelled")  # whose rows show a right answer


@dataclass(frozen=True)
class Rows:
    """Examples to show before a question, and held-out conversations to choose settings by."""

    pool: Pool | None = None
    held_out: tuple[Example, ...] = ()


def example_rows(project: Project, prepared: Prepared) -> Rows:
    """Return training rows as examples, and a sample of the held-out rows.

    None of a kind of data without right answers, or of a pipe, which can be read only once.
    """
    data = project.spec.data
    train = project.path(data.first)
    validation = project.path(data.validation) if data.validation is not None else train
    if prepared.kind not in _KINDS or not (train.exists() and not train.is_fifo()):
        return Rows()
    chosen = prepared.training_rows
    step = max(1, len(chosen) // _MOST_EXAMPLES)
    examples, held_out = set(chosen[::step].tolist()), set(prepared.held_out_rows.tolist())
    if validation == train:  # read once for both
        read = others = _read(train, project, prepared.kind, examples | held_out)
    else:
        read = _read(train, project, prepared.kind, examples)
        others = _read(validation, project, prepared.kind, held_out)
    shown = [
        example
        for number, row in read.items()
        if number in examples and (example := _first_exchange(row)) is not None
    ]
    pool = Pool.of(shown[:_MOST_EXAMPLES]) if shown else None
    return Rows(pool, sample(row for number, row in others.items() if number in held_out))


def _read(path: Path, project: Project, kind: Kind, numbers: Collection[int]) -> dict[int, Example]:
    """Return the rows of these numbers as conversations, the right answer in each."""
    found: dict[int, Example] = {}
    for number, row in enumerate(scan_kind(path, kind, project.mapping)):
        if isinstance(row, DataError):
            raise row
        if number in numbers:
            found[number] = conversations(row)[0]
    return found


def _first_exchange(row: Example) -> tuple[Message, ...] | None:
    """Return the first question and its answer: what is understood without what follows."""
    for turn, reply in zip(row.messages, row.messages[1:], strict=False):
        if turn.role == "user":
            is_plain = reply.role == "assistant" and not reply.tool_calls and reply.weight > 0
            return (turn, reply) if is_plain and reply.content else None
    return None
