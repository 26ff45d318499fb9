"""What is looked up for each question: passages of documents, and examples of questions like it.

Kept as a folder of its own, so that it can be part of a registered model:

look_up.json      how many of each, and how passages are put
index/            the document index
examples.jsonl    conversations to choose from
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from tunefork.core.errors import ModelError
from tunefork.core.files import new_folder, read_json, write_json, write_text
from tunefork.data import Message
from tunefork.inference import ChatModel, join
from tunefork.retrieval import Form, Index, Keywords, language_of, with_passages

_RECORD = "look_up.json"
_LONGEST_ANSWER = 256  # tokens that are left free for it, of a window that has them
_ANSWER_SHARE = 0.25  # of a window that has not


@dataclass(frozen=True)
class Pool:
    """Conversations of one question and its answer, found by the words of the question."""

    examples: tuple[tuple[Message, ...], ...]
    keywords: Keywords = field(compare=False)

    @classmethod
    def of(cls, examples: Sequence[Sequence[Message]]) -> Pool:
        """Index examples by their last user turn."""
        questions = [_question(each) for each in examples]
        language = language_of(questions)
        keywords = Keywords.of(questions, [1] * len(questions), language)
        return cls(tuple(tuple(each) for each in examples), keywords)

    def like(self, question: str, count: int) -> list[tuple[Message, ...]]:
        """Return the examples whose questions share most words with this one, the nearest last."""
        if count == 0:
            return []
        scores = self.keywords.scores(question, np.arange(len(self.examples)))
        nearest = np.argsort(-scores, kind="stable")[:count]
        return [self.examples[at] for at in reversed(nearest.tolist())]


@dataclass(frozen=True)
class LookUp:
    """What is looked up, and how much of it.

    Attributes:
        index: Of documents.
        passages: How many go before a question.
        form: How they are put: numbered to be cited, or plain.
        pool: Of examples.
        shots: How many go before a conversation.
    """

    index: Index | None = None
    passages: int = 0
    form: Form = "cited"
    pool: Pool | None = None
    shots: int = 0

    def put(self, messages: Sequence[Message], passages: int, shots: int) -> tuple[Message, ...]:
        """Return a conversation with what was found for its last user turn."""
        turns = list(messages)
        at = _asking(turns)
        if at is None:
            return tuple(turns)
        question = turns[at].content
        if self.index is not None and passages:
            chunks = [hit.chunk for hit in self.index.search(question, passages)]
            if chunks:
                turns[at] = replace(turns[at], content=with_passages(question, chunks, self.form))
        begin = 1 if turns[0].role in ("system", "developer") else 0
        examples = self.pool.like(question, shots) if self.pool is not None else []
        shown = [replace(turn, weight=0.0) for example in examples for turn in example]
        return (*turns[:begin], *shown, *turns[begin:])

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield how much to put, less each time: examples are given up before passages."""
        passages, shots = self.passages, self.shots
        while passages or shots:
            yield passages, shots
            passages, shots = (passages, shots - 1) if shots else (passages - 1, 0)
        yield 0, 0

    def as_dict(self) -> dict[str, Any]:
        """Return what it does, without what it looks up in."""
        return {"passages": self.passages, "form": self.form, "shots": self.shots}


def looking_up(chat: ChatModel, look_up: LookUp | None) -> ChatModel:
    """Return a model for whose conversations something is looked up, as much as fits."""
    if look_up is None:
        return replace(chat, look_up=None)
    return replace(chat, look_up=partial(_fitting, look_up, chat))


def _fitting(look_up: LookUp, chat: ChatModel, messages: Sequence[Message]) -> Sequence[Message]:
    """Put as much as leaves room for an answer."""
    found: tuple[Message, ...] = tuple(messages)
    for passages, shots in look_up.sizes():
        found = look_up.put(messages, passages, shots)
        if chat.max_length is None:
            break
        room = min(_LONGEST_ANSWER, int(chat.max_length * _ANSWER_SHARE))
        prompt = join(chat.before, found[: (_asking(found) or 0) + 1])
        if len(chat.renderer.prompt(prompt)) + room <= chat.max_length:
            break
    return found


def save_look_up(look_up: LookUp, folder: Path) -> None:
    """Write it into a new folder, whole or not at all."""
    with new_folder(folder) as new:
        write_json(new / _RECORD, look_up.as_dict())
        if look_up.index is not None:
            look_up.index.save(new / "index")
        if look_up.pool is not None:
            rows = [
                [{"role": turn.role, "content": turn.content} for turn in example]
                for example in look_up.pool.examples
            ]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(new / "examples.jsonl", lines)


def open_look_up(folder: Path) -> LookUp:
    """Read what `save_look_up` wrote.

    Raises:
        InputError: It is gone or damaged.
    """
    record = read_json(folder / _RECORD)
    path = folder / "examples.jsonl"
    index = Index.open(folder / "index") if (folder / "index").is_dir() else None
    try:
        pool = None
        if path.is_file():
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            pool = Pool.of([[Message(**turn) for turn in row] for row in rows])
        return LookUp(
            index,
            int(record["passages"]),
            cast(Form, record["form"]),
            pool,
            int(record["shots"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"what the model looks things up in is damaged: {error}",
            where=folder,
            hint="`tunefork verify` names what is damaged; `tunefork compare` makes it anew",
        ) from error


def _asking(messages: Sequence[Message]) -> int | None:
    """Return the place of the last user turn."""
    places = [at for at, turn in enumerate(messages) if turn.role == "user"]
    return places[-1] if places else None


def _question(example: Sequence[Message]) -> str:
    at = _asking(example)
    return "" if at is None else example[at].content
