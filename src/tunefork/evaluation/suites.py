"""Suites of what a model could do before it was tuned: multiple choice, minimal pairs, questions.

A suite is a file, or a folder or zip of files, of any one of these lines:

    {"question", "choices", "answer"}                       the likeliest choice is the right one
    {"sentence_good", "sentence_bad"}                       the good one is likelier: BLiMP's
    {"prompt", "instruction_id_list", "kwargs"}             the answer follows them: IFEval's
    {"question", "reference", "grader"}                     a golden question
    {"doc_id", "arguments", "target"}                       a multiple choice of lm-eval's

Entry point: `load_suite`. No model is run here; the caller brings scores or answers.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError
from tunefork.data.read import Record
from tunefork.evaluation.golden import GoldenQuestion, golden_question
from tunefork.evaluation.instructions import follows, is_known
from tunefork.evaluation.lines import read_items
from tunefork.evaluation.lm_eval import is_lm_eval_item, lm_eval_item
from tunefork.evaluation.probe import ProbeItem, probe_item

MOST_ITEMS = 1_000  # of a suite; about 800 show a drop of two points
_SHAPES = (
    "questions with `choices`, pairs of sentences, IFEval's prompts, lm-eval's samples or golden "
    "questions"
)


@dataclass(frozen=True)
class MinimalPair:
    """Two sentences that differ in one thing, of which only one is good.

    Warstadt et al., "BLiMP: The Benchmark of Linguistic Minimal Pairs for English", TACL 2020.
    """

    good: str
    bad: str
    group: str


@dataclass(frozen=True)
class Instructed:
    """A prompt, and what the answer must keep to."""

    prompt: str
    instructions: tuple[str, ...]
    arguments: tuple[dict[str, Any], ...]

    def is_followed(self, answer: str) -> bool:
        """Say whether an answer keeps to all of it."""
        return follows(answer, self.instructions, self.arguments)


Item = ProbeItem | MinimalPair | Instructed | GoldenQuestion


@dataclass(frozen=True)
class Suite:
    """Items of one kind.

    Attributes:
        name: The file's, without its ending.
        items: What is asked; at most `MOST_ITEMS`, spread evenly over the groups.
        left_out: How many more there were.
        unknown: How many there were that cannot be checked.
    """

    name: str
    items: tuple[Item, ...]
    left_out: int = 0
    unknown: int = 0

    @property
    def groups(self) -> list[str]:
        """The group of each item."""
        return [_group(item) for item in self.items]


def load_suite(path: Path) -> Suite:
    """Read a suite.

    Raises:
        DataError: It cannot be read, holds nothing, or lines of it cannot be used.
    """
    if path.suffix == ".zip":
        found = _from_zip(path)
    elif path.is_dir():
        found = [item for each in sorted(path.rglob("*.jsonl")) for item in read_items(each, _item)]
    else:
        found = read_items(path, _item)
    items = [item for item in found if item is not None]
    if len({type(item) for item in items}) != 1:
        what = "it mixes several kinds of items" if items else "it holds no item that can be used"
        raise DataError(what, where=path, hint=f"a suite is of one kind: {_SHAPES}")
    chosen = _spread(items, MOST_ITEMS)
    unknown = len(found) - len(items)
    return Suite(path.stem, tuple(chosen), len(items) - len(chosen), unknown)


def pairs_right(good: Sequence[float], bad: Sequence[float]) -> list[float]:
    """Return 1 for each pair whose good sentence is likelier, by its whole log-probability."""
    return [float(one > other) for one, other in zip(good, bad, strict=True)]


def _from_zip(path: Path) -> list[Item | None]:
    found: list[Item | None] = []
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            names = sorted(name for name in archive.namelist() if name.endswith(".jsonl"))
            for name in names:
                if "__MACOSX" not in name:
                    found += read_items(Path(archive.extract(name, folder)), _item)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"this is no zip that can be read: {error}", where=path) from error
    return found


def _item(record: Record) -> Item | None:
    """Return what a line says; None for what cannot be checked."""
    fields, where = record.fields, record.where
    if "sentence_good" in fields or "sentence_bad" in fields:
        good, bad = fields.get("sentence_good"), fields.get("sentence_bad")
        if not (isinstance(good, str) and good.strip() and isinstance(bad, str) and bad.strip()):
            raise DataError("`sentence_good` and `sentence_bad` must be texts", where=where)
        return MinimalPair(good, bad, str(fields.get("UID", fields.get("group", good))))
    if is_lm_eval_item(fields):
        return lm_eval_item(record)
    if "choices" in fields:
        return probe_item(record)
    if "instruction_id_list" in fields:
        return _instructed(record)
    if "question" in fields or "messages" in fields:
        return golden_question(record)
    raise DataError("this is no item of a suite", where=where, hint=f"known are {_SHAPES}")


def _instructed(record: Record) -> Instructed | None:
    fields, where = record.fields, record.where
    prompt, names, given = (
        fields.get(name) for name in ("prompt", "instruction_id_list", "kwargs")
    )
    if not isinstance(prompt, str) or not prompt.strip():
        raise DataError("`prompt` must be text", where=where)
    if not isinstance(names, list) or not isinstance(given, list) or len(names) != len(given):
        raise DataError("`instruction_id_list` and `kwargs` must be as long", where=where)
    if not all(isinstance(name, str) and is_known(name) for name in names):
        return None
    item = Instructed(prompt, tuple(names), tuple(dict(each or {}) for each in given))
    try:
        item.is_followed("x")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"`kwargs` lacks {error}", where=where) from error
    return item


def _group(item: Item) -> str:
    return item.prompt if isinstance(item, Instructed) else item.group


def _spread(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most so many, as many of each group as there is room; the same ones each time."""
    if len(items) <= most:
        return list(items)
    by_group: dict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(items):
        by_group[_group(item)].append(at)
    ranked = sorted(
        (rank, _digest(group), at)
        for group, places in by_group.items()
        for rank, at in enumerate(sorted(places, key=lambda at: _digest(repr(items[at]))))
    )
    return [items[at] for at in sorted(at for _, _, at in ranked[:most])]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
