"""What a tuned model must not lose or give away, besides general knowledge.

The user's own suites, what to refuse and what not to, and secrets planted in the training data:
asked of the base and of the tuned model alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from tunefork.core.errors import DataError, Where
from tunefork.core.events import Noted, Progress, Sink
from tunefork.data import Example, Message, TokenRows
from tunefork.data.recognise import scan_examples
from tunefork.evaluation import (
    Canaries,
    Canary,
    CanaryResult,
    Forgetting,
    GoldenQuestion,
    ProbeItem,
    Safety,
    SafetyItem,
    alternatives,
    exposure,
    forgetting_of,
    is_recited,
    load_canaries,
    load_safety,
    measure_safety,
)
from tunefork.evaluation.suites import Instructed, MinimalPair, Suite, load_suite, pairs_right
from tunefork.graders import grade_many
from tunefork.graders.abstain import refuses
from tunefork.inference import ChatModel, Decoding, generate, score_rows
from tunefork.workflow.measure import answer_probe
from tunefork.workflow.objective_specs import JUDGES
from tunefork.workflow.opened import DECODING
from tunefork.workflow.spec import Project

# A refusal shows in its first words.
_FIRST_WORDS = Decoding(max_new_tokens=40)
_SECRET_TOKENS = 40


@dataclass(frozen=True)
class Abilities:
    """What both models are asked."""

    safety: tuple[SafetyItem, ...]
    suites: tuple[Suite, ...]
    canaries: tuple[Canary, ...]
    is_text: bool  # canaries stand in plain texts, not in answers


@dataclass(frozen=True)
class Shown:
    """What one model showed, in the order of what it was asked."""

    refused: tuple[bool, ...]
    suites: tuple[tuple[float, ...], ...]
    canaries: tuple[tuple[float, bool], ...]  # exposure in bits, and whether it was written


@dataclass(frozen=True)
class Kept:
    """What tuning did to all of it; None where nothing was asked."""

    safety: Safety | None
    suites: tuple[tuple[str, Forgetting], ...]
    canaries: Canaries | None

    def as_dict(self) -> dict[str, Any]:
        """Return what `run --json` prints of it; secrets by their number only."""
        return {
            "safety": asdict(self.safety) if self.safety else None,
            "suites": {name: asdict(forgetting) for name, forgetting in self.suites},
            "canaries": asdict(self.canaries)["results"] if self.canaries else None,
        }


def load_abilities(project: Project, sink: Sink) -> Abilities:
    """Return what is to be asked; before training, so that a bad file is told at once.

    Raises:
        DataError: A suite or the canaries cannot be read.
    """
    spec = project.spec
    suites = tuple(load_suite(project.path(name)) for name in spec.forgetting.suites)
    for suite in suites:
        if suite.left_out or suite.unknown:
            sink(Noted(_left_out(suite)))
    name = spec.gate.canaries
    canaries = load_canaries(project.path(name)) if name else []
    answers_in_words = spec.objective.name not in JUDGES
    return Abilities(
        tuple(load_safety()) if answers_in_words else (),
        suites,
        tuple(canaries),
        project.spec.objective.build().kind == "text",
    )


def with_prompts(asked: Abilities, project: Project) -> Abilities:
    """Give each canary the question that it answers in the training data, where it says none."""
    path = project.path(project.spec.data.first)
    lacking = [canary for canary in asked.canaries if canary.prompt is None]
    kind = project.spec.objective.build().kind
    if not lacking or kind != "chat" or not path.exists() or path.is_fifo():
        return asked
    found: dict[str, str] = {}
    for row in scan_examples(path, project.mapping):
        if isinstance(row, DataError):
            continue
        for before, turn in zip(row.messages, row.messages[1:], strict=False):
            for canary in lacking:
                if turn.role == "assistant" and canary.text in turn.content:
                    found.setdefault(canary.text, before.content)
    canaries = [
        replace(each, prompt=each.prompt or found.get(each.text)) for each in asked.canaries
    ]
    return replace(asked, canaries=tuple(canaries))


def show(chat: ChatModel, asked: Abilities, name: str, sink: Sink) -> Shown:
    """Ask one model everything."""
    requests = [[Message("user", item.request)] for item in asked.safety]
    answers = chat.answer(requests, _FIRST_WORDS, on_answer=_told(sink, name, "safety", requests))
    return Shown(
        tuple(refuses(answer.text) is not None for answer in answers),
        tuple(tuple(_on_suite(chat, suite, name, sink)) for suite in asked.suites),
        tuple(_on_canary(chat, canary, is_text=asked.is_text) for canary in asked.canaries),
    )


def compare_shown(base: Shown, tuned: Shown, asked: Abilities, confidence: float) -> Kept:
    """Test what both showed, item by item."""
    changes = zip(asked.suites, base.suites, tuned.suites, strict=True)
    found = [
        CanaryResult(number, after[0], before[0], after[1] and not before[1])
        for number, (before, after) in enumerate(zip(base.canaries, tuned.canaries, strict=True), 1)
    ]
    return Kept(
        measure_safety(asked.safety, base.refused, tuned.refused, confidence=confidence)
        if asked.safety
        else None,
        tuple(
            (suite.name, forgetting_of(before, after, suite.groups, confidence=confidence))
            for suite, before, after in changes
        ),
        Canaries(tuple(found)) if found else None,
    )


def _on_suite(chat: ChatModel, suite: Suite, name: str, sink: Sink) -> list[float]:
    """Return one model's score of each item, from 0 to 1."""
    items: Sequence[Any] = suite.items  # all of one kind
    told = _told(sink, name, suite.name, items)
    if isinstance(items[0], ProbeItem):
        return [float(right) for right in answer_probe(chat, items, name, sink)]
    if isinstance(items[0], MinimalPair):
        pairs = cast(Sequence[MinimalPair], items)
        return pairs_right(*(_texts(chat, texts) for texts in zip(*_sentences(pairs), strict=True)))
    if isinstance(items[0], Instructed):
        prompts = [[Message("user", item.prompt)] for item in items]
        answers = chat.answer(prompts, DECODING, on_answer=told)
        pairs_of = zip(items, answers, strict=True)
        return [float(item.is_followed(answer.text)) for item, answer in pairs_of]
    questions = cast(Sequence[GoldenQuestion], items)
    turns = [
        [Message(turn["role"], turn["content"]) for turn in question.messages]
        for question in questions
    ]
    answers = chat.answer(turns, DECODING, on_answer=told)
    grades = grade_many([each.grader for each in questions], [each.text for each in answers])
    return [grade.score for grade in grades]


def _sentences(pairs: Sequence[MinimalPair]) -> list[tuple[str, str]]:
    return [(pair.good, pair.bad) for pair in pairs]


def _texts(chat: ChatModel, texts: Sequence[str]) -> list[float]:
    """Return the log-probability of each text as a whole, with no conversation around it."""
    drafts = [chat.renderer.document(text) for text in texts]
    rendered = chat.renderer.encode_drafts(drafts, [Where("suite")] * len(drafts))
    rows = []
    for row in rendered:
        if isinstance(row, DataError):
            raise row
        rows.append(row)
    scores = score_rows(chat.model, TokenRows.from_rendered(rows))
    return [score.log_probability for score in scores]


def _on_canary(chat: ChatModel, canary: Canary, *, is_text: bool) -> tuple[float, bool]:
    """Return the exposure of a secret, and whether the model writes it."""
    texts = [canary.text, *alternatives(canary)]
    prompt = canary.prompt or canary.before
    if is_text:
        own, *others = _texts(chat, texts)
        start = chat.renderer.tokenizer.encode(canary.before.rstrip())
    else:
        scores = chat.score([_exchange(prompt, text) for text in texts])
        own, *others = (score.log_probability for score in scores)
        before = chat.renderer.tokenizer.encode(canary.before.rstrip())
        start = [*chat.renderer.prompt([Message("user", prompt)]), *before]
    decoding = Decoding(max_new_tokens=_SECRET_TOKENS)
    (written,) = generate(
        chat.model, [start], chat.renderer.end_ids, decoding, max_length=chat.max_length
    )
    answer = canary.before + chat.renderer.tokenizer.decode(written.ids)
    return exposure(own, others), is_recited(canary, answer)


def _exchange(question: str, answer: str) -> Example:
    return Example((Message("user", question), Message("assistant", answer)), Where("suite"))


def _left_out(suite: Suite) -> str:
    parts = [f"{len(suite.items):,} items of `{suite.name}` are asked"]
    if suite.left_out:
        parts.append(f"{suite.left_out:,} more are left out, evenly over its groups")
    if suite.unknown:
        parts.append(f"{suite.unknown:,} cannot be checked")
    return "; ".join(parts)


def _told(sink: Sink, name: str, what: str, items: Sequence[object]) -> Any:
    return lambda done: sink(Progress(f"{name}: {what}", done, len(items)))
