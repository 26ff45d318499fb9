"""Golden questions out of the user's own rows: held out by groups, each with a grader that fits.

Rows that are nearly the same form a group, which is about one fact; whole groups are held out, so
that no golden question has a twin among the training rows. Of each group up to three rows become
questions. Which groups are taken follows from their text, not from the order of the file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunefork.core.errors import DataError
from tunefork.core.events import Sink, Warned
from tunefork.data import Example, Renderer, group_rows, load_examples, load_tokenizer, prepare_file
from tunefork.data.convert.shapes import turns
from tunefork.evaluation import groups_for
from tunefork.models import find_base
from tunefork.workflow.answer_form import form_of, grader_for, labels_of

_MOST_SHARE = 0.2  # of the rows and of the groups: the rest is to be learned
_PER_GROUP = 3  # questions: more of one fact add next to nothing
_FEWEST_GROUPS = 30  # in the file: below, what is held out could show nothing
_ROLES = ("system", "developer", "user", "assistant")
_HUNDREDTHS = 100


@dataclass(frozen=True)
class Offer:
    """Rows divided into golden questions and training rows.

    Attributes:
        golden: Lines for a golden file.
        training: Rows to train on, in OpenAI's format.
        n_groups: How many facts the questions are about.
        n_left: Held-out rows that are no question: they have twins among the questions.
        forms: How many questions have an answer of each form.
        gain: The gain that the user wants to see.
        needed: How many facts that takes, at a power of 80 %; None beyond a million.
        visible: The smallest gain that these questions show, in hundredths; None where none.
    """

    golden: tuple[dict[str, Any], ...]
    training: tuple[dict[str, Any], ...]
    n_groups: int
    n_left: int
    forms: Mapping[str, int]
    gain: float
    needed: int | None
    visible: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return what `init --json` prints of it."""
        return {
            "questions": len(self.golden),
            "groups": self.n_groups,
            "training_rows": len(self.training),
            "rows_left_out": self.n_left,
            "forms": dict(self.forms),
            "gain": self.gain,
            "groups_needed": self.needed,
            "is_enough": self.needed is not None and self.n_groups >= self.needed,
            "smallest_visible_gain": self.visible,
        }


def offer_golden(
    path: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    gain: float,
    most: int | None = None,
    sink: Sink,
) -> Offer:
    """Divide a file of examples.

    Args:
        path: The file.
        mapping: Which of its columns is what.
        gain: The gain that the user wants to see, from 0 to 1; says how many are held out.
        most: How many groups to hold out at most; by default what the gain takes.
        sink: Told of progress, and where near-duplicates cannot be told apart.

    Raises:
        DataError: The file cannot be used, or has too few different rows.
    """
    rows = load_examples(path, mapping)
    renderer = Renderer(load_tokenizer(find_base("tiny").folder), None)
    file = prepare_file(path, renderer, mapping=mapping, seed=0, sink=sink)
    keys, note = group_rows(file.facts["prompt"], file.sketches, np.arange(len(rows)))
    if note is not None:
        sink(Warned(note))
    groups = _by_key(keys)
    if len(groups) < _FEWEST_GROUPS:
        raise DataError(
            f"{len(rows)} rows about {len(groups)} different things are too few to hold some out",
            where=path,
            hint=f"add rows until there are {_FEWEST_GROUPS}, or write golden questions by hand",
        )
    needed = groups_for(gain)
    wanted = min(
        part for part in (needed, most, int(_MOST_SHARE * len(groups))) if part is not None
    )
    chosen = _choose(groups, rows, wanted)
    held_out = {at for group in chosen for at in groups[group]}
    labels = labels_of([row.answer for row in rows])
    questions = [line for group in chosen for line in _questions(groups[group], rows, labels)]
    return Offer(
        golden=tuple(line for line, _ in questions),
        training=tuple(_row(row) for at, row in enumerate(rows) if at not in held_out),
        n_groups=len(chosen),
        n_left=len(held_out) - len(questions),
        forms=Counter(form for _, form in questions),
        gain=gain,
        needed=needed,
        visible=_smallest_gain(len(chosen)),
    )


def _by_key(keys: np.ndarray) -> dict[int, list[int]]:
    """Return the rows of each group, the groups in the order of their keys."""
    found: dict[int, list[int]] = {}
    for at in np.argsort(keys, kind="stable").tolist():
        found.setdefault(int(keys[at]), []).append(at)
    return found


def _choose(groups: Mapping[int, Sequence[int]], rows: Sequence[Example], wanted: int) -> list[int]:
    """Take groups in the order of their keys that can be asked, and do not cost many rows."""
    n_left = int(_MOST_SHARE * len(rows))
    chosen: list[int] = []
    for key, places in groups.items():
        if len(chosen) == wanted:
            break
        if len(places) <= n_left // 4 + 1 and any(_is_askable(rows[at]) for at in places):
            chosen.append(key)
            n_left -= len(places)
        if n_left <= 0:
            break
    return chosen


def _questions(
    places: Sequence[int], rows: Sequence[Example], labels: frozenset[str]
) -> list[tuple[dict[str, Any], str]]:
    """Return a group's questions, each with the form of its answer."""
    asked: dict[str, Example] = {}
    for at in places:
        if _is_askable(rows[at]):
            asked.setdefault(rows[at].prompt[-1].content, rows[at])
    chosen = list(asked.values())[:_PER_GROUP]
    found = []
    for row in chosen:
        form = form_of(row.answer, labels)
        reference, grader = grader_for(row.answer, form)
        line: dict[str, Any] = _prompt(row)
        if reference is not None:
            line["reference"] = reference
        line["grader"] = grader
        if len(chosen) > 1:
            line["group"] = chosen[0].prompt[-1].content
        found.append((line, str(form)))
    return found


def _prompt(row: Example) -> dict[str, Any]:
    if len(row.prompt) == 1:
        return {"question": row.prompt[0].content}
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in row.prompt]}


def _is_askable(row: Example) -> bool:
    """Say whether a row's prompt is plain turns that end with a question, and its answer text."""
    turns_are_plain = all(turn.role in _ROLES and not turn.tool_calls for turn in row.prompt)
    ends_with_user = bool(row.prompt) and row.prompt[-1].role == "user"
    return (
        turns_are_plain
        and ends_with_user
        and bool(row.prompt[-1].content.strip())
        and bool(row.answer.strip())
        and not row.tools
    )


def _row(row: Example) -> dict[str, Any]:
    return {"messages": turns(row.messages), **({"tools": list(row.tools)} if row.tools else {})}


def _smallest_gain(groups: int) -> float | None:
    """Return the smallest gain, in whole hundredths, that so many facts show."""

    def is_seen(hundredths: int) -> bool:
        needed = groups_for(hundredths / _HUNDREDTHS)
        return needed is not None and needed <= groups

    place = bisect_left(range(1, _HUNDREDTHS + 1), True, key=is_seen)
    return (place + 1) / _HUNDREDTHS if place < _HUNDREDTHS else None
