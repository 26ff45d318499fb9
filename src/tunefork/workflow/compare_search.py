"""Search the best prompt and the best way to look things up: on held-out rows, never golden ones.

What is best answers the held-out rows most like their own answers, by ROUGE-L. First how many
examples, then the template around them; first how many passages, then how they are put.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tunefork.core.events import Progress, Sink
from tunefork.data import Example
from tunefork.graders.similarity import rouge_l
from tunefork.inference import ChatModel, Decoding
from tunefork.retrieval import Form, Index
from tunefork.workflow.compare_answers import kept
from tunefork.workflow.look_up import LookUp, Pool, looking_up
from tunefork.workflow.registered import Prompt

_ROWS = 16  # held-out rows that a setting is tried on
_SHOTS = (0, 2, 5)
_PASSAGES = (1, 3)
_DEFAULT_SHOTS, _DEFAULT_PASSAGES = 2, 3  # where nothing is held out to choose by
_LONGEST = 64  # tokens of an answer; that of a row is cut at twice the longest of the rows' own
# `{}` is the goal of the spec.
_TEMPLATES = (
    None,
    "{}",
    "You are a helpful assistant. Your task: {}",
)
_NO_GOAL = (None, "You are a helpful assistant.")


@dataclass(frozen=True)
class Way:
    """What stands around a question: a prompt, and what is looked up."""

    prompt: Prompt = field(default_factory=Prompt)
    look_up: LookUp | None = None

    def on(self, chat: ChatModel) -> ChatModel:
        """Return a model that is asked this way."""
        return looking_up(replace(chat, before=self.prompt.messages), self.look_up)

    def key(self) -> dict[str, Any]:
        """Return all that decides what it does, as plain data."""
        look_up = self.look_up
        pool = look_up.pool if look_up is not None else None
        return {
            "prompt": asdict(self.prompt),
            "look_up": look_up.as_dict() if look_up is not None else None,
            "index": look_up.index.hash if look_up is not None and look_up.index else None,
            "pool": [[asdict(turn) for turn in each] for each in pool.examples] if pool else None,
        }


@dataclass(frozen=True)
class Searcher:
    """Tries ways on held-out rows with one model.

    Attributes:
        chat: The model.
        model_key: What tells it from every other model.
        rows: Held-out conversations; none where nothing is held out.
        what: Of the progress.
        sink: Told how far it is.
    """

    chat: ChatModel
    model_key: Any
    rows: tuple[Example, ...]
    what: str
    sink: Sink

    def best(self, ways: Sequence[Way]) -> Way:
        """Return the way whose answers are most like those of the rows; the first of equals."""
        scores = []
        for number, way in enumerate(ways, start=1):
            scores.append(self._score(way))
            self.sink(Progress(f"{self.what}: {len(ways)} settings", number, len(ways)))
        return ways[max(range(len(ways)), key=scores.__getitem__)]

    def _score(self, way: Way) -> float:
        key = [self.model_key, way.key(), [asdict(row) for row in self.rows]]
        return float(kept(key, lambda: self._likeness(way))["mean"])

    def _likeness(self, way: Way) -> dict[str, Any]:
        chat = way.on(self.chat)
        wanted = [row.messages[-1].content for row in self.rows]
        longest = max(len(chat.renderer.tokenizer.encode(text)) for text in wanted)
        decoding = Decoding(max_new_tokens=min(_LONGEST, 2 * longest + 1))
        answers = chat.answer([row.messages[:-1] for row in self.rows], decoding)
        likeness = [
            rouge_l(answer.text, text) for answer, text in zip(answers, wanted, strict=True)
        ]
        return {"mean": statistics.fmean(likeness), "rows": len(likeness)}


def sample(rows: Iterable[Example]) -> tuple[Example, ...]:
    """Return some of the held-out rows, spread over all; each up to its last answer."""
    last = [row for each in rows if (row := _last_answer(each)) is not None]
    step = max(1, len(last) // _ROWS)
    return tuple(last[::step][:_ROWS])


def best_prompt(searcher: Searcher, goal: str, pool: Pool | None) -> Way:
    """Search how many examples, then which system prompt."""

    def way(template: str | None, shots: int) -> Way:
        look_up = LookUp(pool=pool, shots=shots) if pool is not None and shots else None
        return Way(Prompt(system=template.format(goal) if template else None), look_up)

    templates = _TEMPLATES if goal else _NO_GOAL
    shots = [count for count in _SHOTS if pool is not None or count == 0]
    if not searcher.rows:
        return way(templates[1], min(_DEFAULT_SHOTS, shots[-1]))
    first = searcher.best([way(templates[1], count) for count in shots])
    count = first.look_up.shots if first.look_up is not None else 0
    # Neither a prompt nor examples would be the base.
    return searcher.best([way(each, count) for each in templates if each is not None or count])


def best_retrieval(searcher: Searcher, index: Index, around: Way | None = None) -> Way:
    """Search how many passages, then how they are put; a given way stands around them."""
    around = around or Way()
    given = around.look_up or LookUp()

    def way(passages: int, is_cited: bool) -> Way:
        form: Form = "cited" if is_cited else "plain"
        found = replace(given, index=index, passages=passages, form=form)
        return Way(around.prompt, found)

    if not searcher.rows:
        return way(_DEFAULT_PASSAGES, True)
    first = searcher.best([way(count, True) for count in _PASSAGES])
    assert first.look_up is not None, "it looks passages up"
    return searcher.best([way(first.look_up.passages, each) for each in (True, False)])


def describe(way: Way) -> str:
    """Say in words what was chosen."""
    parts = []
    if way.prompt.system:
        parts.append(
            f"system prompt \N{LEFT DOUBLE QUOTATION MARK}{way.prompt.system}"
            "\N{RIGHT DOUBLE QUOTATION MARK}"
        )
    look_up = way.look_up
    if look_up is not None and look_up.shots:
        parts.append(f"{look_up.shots} like examples of {len(_pool(look_up).examples)}")
    if look_up is not None and look_up.passages:
        many = "passages" if look_up.passages > 1 else "passage"
        put = "numbered to be cited" if look_up.form == "cited" else "put plainly"
        parts.append(f"{look_up.passages} {many}, {put}")
    return ", ".join(parts)


def _pool(look_up: LookUp) -> Pool:
    assert look_up.pool is not None, "examples come from a pool"
    return look_up.pool


def _last_answer(row: Example) -> Example | None:
    """Return the conversation up to its last answer; None where there is none to learn from."""
    places = [at for at, turn in enumerate(row.messages) if turn.role == "assistant"]
    if not places or row.messages[places[-1]].weight == 0:
        return None
    return replace(row, messages=row.messages[: places[-1] + 1])
