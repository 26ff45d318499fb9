"""Climb the ladder: find each rung's best way on held-out rows, then ask the golden questions."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import InputError
from tunefork.core.events import Sink, Warned
from tunefork.core.files import cache_folder
from tunefork.core.units import bytes_text, count_text
from tunefork.data import Message
from tunefork.evaluation import Climbed, Cost, GoldenQuestion, Prices
from tunefork.graders import grade_many, require_graded
from tunefork.inference import ChatModel, Decoding
from tunefork.models import Base
from tunefork.retrieval import Index, update_index
from tunefork.workflow.compare_answers import Asking, Collected, Said, collect
from tunefork.workflow.compare_reference import Reference
from tunefork.workflow.compare_rows import Rows
from tunefork.workflow.compare_search import (
    Searcher,
    Way,
    best_prompt,
    best_retrieval,
    describe,
)
from tunefork.workflow.opened import DECODING
from tunefork.workflow.registered import Prompt
from tunefork.workflow.runs import code_hash, environment_of
from tunefork.workflow.spec import Project


@dataclass(frozen=True)
class Step:
    """A rung that was climbed, the way that it was asked, and the base that answered."""

    climbed: Climbed
    way: Way
    base: Base | None  # None where it is not ours


@dataclass(frozen=True)
class Climber:
    """Asks rungs the golden questions.

    Attributes:
        golden: The questions.
        goal: Of the spec.
        rows: Examples, and held-out rows to choose by.
        index: Of the documents; None where there are none.
        wanted: The names of the rungs to climb.
        prices: The user's.
        sink: Told how far it is.
        decoding: How answers are drawn.
    """

    golden: tuple[GoldenQuestion, ...]
    goal: str
    rows: Rows
    index: Index | None
    wanted: frozenset[str]
    prices: Prices
    sink: Sink
    decoding: Decoding = DECODING

    def on_base(self, chat: ChatModel, base: Base) -> list[Step]:
        """Climb the rungs of the base."""
        model, key = _Model(chat, base, base.weight_bytes), _model_key(chat, base.hash())
        steps = [self._climb("base", model, key, Way(), "none")]
        prompt: Way | None = None
        if {"prompt", "prompt+retrieval"} & self.wanted:
            prompt = self._best_prompt(chat, key, "prompt")
        if prompt is not None and "prompt" in self.wanted:
            steps.append(self._climb("prompt", model, key, prompt, _prompt_effort(prompt)))
        if self.index is None:
            return steps
        searcher = self._searcher(chat, key, "retrieval")
        kept_current = _documents_effort(self.index)
        if "retrieval" in self.wanted:
            way = best_retrieval(searcher, self.index)
            steps.append(self._climb("retrieval", model, key, way, kept_current))
        if prompt is not None and "prompt+retrieval" in self.wanted:
            way = best_retrieval(searcher, self.index, around=prompt)
            effort = f"{_prompt_effort(prompt)}; {kept_current}"
            steps.append(self._climb("prompt+retrieval", model, key, way, effort))
        return steps

    def on_tuned(self, chat: ChatModel, base: Base, weights: Weights) -> list[Step]:
        """Climb the rungs of the tuned model."""
        key = _model_key(chat, base.hash(), weights.hash)
        model = _Model(chat, base, weights.memory_bytes)
        steps = []
        if "tuned" in self.wanted:
            steps.append(self._climb("tuned", model, key, Way(), weights.effort))
        # A head that gives labels was trained on texts alone.
        if self.index is not None and "tuned+retrieval" in self.wanted and type(chat) is ChatModel:
            way = best_retrieval(self._searcher(chat, key, "tuned+retrieval"), self.index)
            effort = f"{weights.effort}; {_documents_effort(self.index)}"
            steps.append(self._climb("tuned+retrieval", model, key, way, effort))
        return steps

    def on_larger(self, chat: ChatModel, base: Base) -> list[Step]:
        """Climb a larger base, behind a prompt that was searched for it."""
        model, key = _Model(chat, base, base.weight_bytes), _model_key(chat, base.hash())
        way = self._best_prompt(chat, key, "larger")
        effort = f"{bytes_text(base.weight_bytes)} of weights; {_prompt_effort(way)}"
        return [self._climb("larger", model, key, way, effort)]

    def on_reference(self, reference: Reference, today: str) -> list[Step]:
        """Ask a server's model; its answers are kept for a day."""
        system = (Message("system", self.goal),) if self.goal else ()
        most_tokens = self.decoding.max_new_tokens
        with reference.open(self.sink) as model:

            def ask(conversations: Sequence[Sequence[Message]]) -> list[Said]:
                return model.ask([(*system, *each) for each in conversations], most_tokens)

            asking = Asking(
                "reference: golden questions",
                [reference.address.url, model.name, today, self.goal, most_tokens],
                ask,
                batch=1,
                is_timed_alone=True,
            )
            found = collect(asking, self._conversations(), self.sink)
        climbed = self._graded("reference", found)
        way = Way(Prompt(system=self.goal or None))
        return [Step(climbed("a server", model.name, None), way, None)]

    def _best_prompt(self, chat: ChatModel, key: Any, name: str) -> Way:
        return best_prompt(self._searcher(chat, key, name), self.goal, self.rows.pool)

    def _searcher(self, chat: ChatModel, key: Any, name: str) -> Searcher:
        return Searcher(chat, key, self.rows.held_out, name, self.sink)

    def _climb(self, name: str, model: _Model, key: Any, way: Way, effort: str) -> Step:
        chat = way.on(model.chat)

        def ask(conversations: Sequence[Sequence[Message]]) -> list[Said]:
            found = chat.answer(conversations, self.decoding)
            return [Said(each.text, each.ended, each.prompt_tokens, each.tokens) for each in found]

        asking = Asking(f"{name}: golden questions", [key, way.key(), str(self.decoding)], ask)
        climbed = self._graded(name, collect(asking, self._conversations(), self.sink))
        return Step(climbed(effort, describe(way), model.memory_bytes), way, model.base)

    def _graded(self, name: str, found: Collected) -> Callable[[str, str, int | None], Climbed]:
        """Grade the answers; what is returned takes effort, settings and memory."""
        texts = tuple(each.text for each in found.said)
        grades = grade_many([question.grader for question in self.golden], texts)
        require_graded(grades, self.golden[0].where)

        def climbed(effort: str, settings: str, memory_bytes: int | None) -> Climbed:
            cost = self._cost(name, found, memory_bytes)
            return Climbed(name, texts, tuple(grades), cost, effort, settings)

        return climbed

    def _cost(self, name: str, found: Collected, memory_bytes: int | None) -> Cost:
        tokens = [
            _mean([each.tokens_in for each in found.said]),
            _mean([each.tokens_out for each in found.said]),
        ]
        seconds = found.seconds / len(found.said)
        # A server elsewhere is paid by its tokens, not by our machine's time.
        prices = self.prices
        if name == "reference":
            prices = Prices(prices.input_per_million, prices.output_per_million)
        is_counted = None not in tokens or prices.per_hour is not None
        price = prices.of(tokens[0] or 0.0, tokens[1] or 0.0, seconds) if is_counted else None
        quantiles = _quantiles(found.latencies)
        return Cost(
            tokens_in=tokens[0],
            tokens_out=tokens[1],
            seconds=seconds,
            latency_p50=quantiles[0],
            latency_p95=quantiles[1],
            timed=len(found.latencies),
            memory_bytes=memory_bytes,
            money=None if price is None else 1000 * price,
        )

    def _conversations(self) -> list[list[Message]]:
        return [
            [Message(turn["role"], turn["content"]) for turn in question.messages]
            for question in self.golden
        ]


@dataclass(frozen=True)
class Weights:
    """What tuning made: its hash, what it and its base take in memory, and what it took."""

    hash: str
    memory_bytes: int
    effort: str


@dataclass(frozen=True)
class _Model:
    chat: ChatModel
    base: Base
    memory_bytes: int


def documents_index(project: Project, sink: Sink) -> tuple[Index | None, str]:
    """Return the index of the spec's documents; None and why, where there is none."""
    name = project.spec.data.documents
    if name is None:
        return None, "the spec names no documents: `data.documents`"
    folder = project.path(name)
    try:
        return update_index(folder, _index_folder(folder), sink=sink), ""
    except InputError as error:
        hint = f" ({error.hint})" if error.hint else ""
        reason = f"no document can be searched: {error.where}: {error.message}{hint}"
        sink(Warned(reason))
        return None, reason


def _index_folder(documents: Path) -> Path:
    from tunefork.core.hashing import hash_json

    name = hash_json(str(documents.resolve())).removeprefix("sha256:")[:16]
    return cache_folder() / "indexes" / name


def _model_key(chat: ChatModel, *hashes: str) -> dict[str, Any]:
    """Return all of a model that decides its answers."""
    return {
        "weights": hashes,
        "renderer": chat.renderer.fingerprint,
        "max_length": chat.max_length,
        "kind": type(chat).__name__,
        "environment": environment_of(chat.model),
        "code": code_hash(),
    }


def _prompt_effort(way: Way) -> str:
    look_up = way.look_up
    parts = ["a system prompt"] if way.prompt.system else []
    if look_up is not None and look_up.pool is not None and look_up.shots:
        parts.append(f"{count_text(len(look_up.pool.examples))} examples to choose from")
    return " and ".join(parts)


def _documents_effort(index: Index) -> str:
    count = len(index.documents)
    return f"{count} document{'s' if count != 1 else ''} kept up to date"


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _quantiles(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile, which of few values is their largest."""
    if not seconds:
        return None, None
    ordered = sorted(seconds)
    place = min(len(ordered) - 1, round(0.95 * (len(ordered) - 1) + 0.499))
    return statistics.median(ordered), ordered[place]
