"""The rows that everyone trains on, and which of them make up which step.

Lengths are those of real data (`lengths.json`); the tokens are random, with the frequencies of
words (Zipf), so that there is something to learn and no text to ship.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.places import LENGTHS
from benchmarks.workers.common import Rows

Order = Literal["plain", "grouped"]

_WINDOW = 50  # steps whose rows are sorted together, as `group_by_length` does
_SPECIAL = 4  # ids at the beginning of the vocabulary that no row holds
_PROMPT_SHARE = 0.25  # of a row, in the length sweep


@dataclass(frozen=True)
class Workload:
    """What to train on which model."""

    name: str
    what: str  # one line for the report
    model: str  # see benchmarks/model.py
    lengths: str  # a key of lengths.json
    rows_per_step: int = 8
    shared: int = 0  # tokens of a system prompt that stands before every row
    row_tokens: int = 0  # all rows of exactly this length, in place of real lengths
    more: int = 1  # times as many timed steps, where steps are short


SUPPORT = Workload("support", "customer support, short question, long reply", "135m", "support")
MATH = Workload("math", "school mathematics, long question, worked solution", "135m", "math")
SYSTEM = Workload("system", "support behind one system prompt", "135m", "support", shared=200)
PAIRS = Workload("pairs", "two answers to each prompt, real transcripts", "135m", "preferences")
PAIRS_WARM_UP = 1  # steps of `make_pair_steps` that are not timed
TINY = Workload("tiny", "support on the bundled 5.4M base", "tiny", "support", more=5)


def batch_sweep(base: Workload) -> list[Workload]:
    """Return a workload per number of rows per step."""
    return [
        Workload(f"{base.name} x{n}", f"{n} rows per step", base.model, base.lengths, n)
        for n in (4, 8, 16, 32)
    ]


def length_sweep(base: Workload) -> list[Workload]:
    """Return a workload per length of row."""
    return [
        Workload(f"{n} tokens", f"rows of {n} tokens", base.model, base.lengths, row_tokens=n)
        for n in (64, 128, 256, 512, 1024)
    ]


@dataclass(frozen=True)
class Steps:
    """Rows, and the row numbers of each step in either order. The first `warm_up` are not timed."""

    rows: Rows
    plain: list[list[int]]
    grouped: list[list[int]]
    warm_up: int

    def of(self, order: Order) -> list[list[int]]:
        """Return the steps in an order."""
        return self.plain if order == "plain" else self.grouped


def make_steps(workload: Workload, vocabulary: int, counted: int, seed: int = 0) -> Steps:
    """Choose rows so that both orders hold the same ones, and few steps stand for an epoch.

    A window of 50 steps' rows is sorted by length and cut into groups. The longest and the
    shortest group warm up; of the others as many as there are counted steps are taken at even
    distances. `grouped` takes them as they are, in random order; `plain` shuffles their rows.
    """
    random = np.random.default_rng([seed, 1])
    n_rows = workload.rows_per_step
    pairs = _pairs(workload, n_rows * _WINDOW, random)
    by_length = np.argsort(-pairs.sum(axis=1), kind="stable").reshape(_WINDOW, n_rows)
    longest, inner, shortest = by_length[0], by_length[1:-1], by_length[-1]
    middles = ((np.arange(counted) + 0.5) * len(inner) / counted).astype(int)
    chosen = inner[middles]  # (counted, rows per step)
    shuffled = random.permutation(chosen.reshape(-1)).reshape(chosen.shape)
    warm_up = [longest.tolist(), shortest.tolist()]
    return Steps(
        rows=_make_rows(pairs, vocabulary, workload.shared, random),
        plain=warm_up + shuffled.tolist(),
        grouped=warm_up + random.permutation(chosen).tolist(),
        warm_up=len(warm_up),
    )


def make_pair_steps(workload: Workload, vocabulary: int, counted: int, seed: int = 0) -> Steps:
    """Choose pairs of a better and a worse answer as `make_steps` chooses rows, one warm-up alone.

    The rows 2 i and 2 i + 1 are the two answers of one prompt, which both begin with; a step holds
    `rows_per_step` pairs of like length. The longest warms up.
    """
    random = np.random.default_rng([seed, 2])
    n_pairs = workload.rows_per_step
    measured = np.array(json.loads(LENGTHS.read_text(encoding="utf-8"))[workload.lengths])
    lengths = measured[random.choice(len(measured), n_pairs * _WINDOW)]  # prompt, two answers
    by_length = np.argsort(-lengths.sum(axis=1), kind="stable").reshape(_WINDOW, n_pairs)
    middles = (1 + (np.arange(counted) + 0.5) * (_WINDOW - 1) / counted).astype(int)
    ids, offsets = [], [0]
    for prompt, *answers in lengths.tolist():
        asked = _words(prompt, vocabulary, random)
        for answer in answers:
            ids += [asked, _words(answer, vocabulary, random)]
            offsets.append(offsets[-1] + prompt + answer)
    rows = Rows(np.concatenate(ids), np.array(offsets), np.repeat(lengths[:, 0], 2))
    steps = [
        [row for pair in step for row in (2 * pair, 2 * pair + 1)]
        for step in by_length[[0, *middles]].tolist()
    ]
    return Steps(rows=rows, plain=steps, grouped=steps, warm_up=PAIRS_WARM_UP)


def _pairs(workload: Workload, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return (prompt, answer) tokens of each row: (count, 2)."""
    if workload.row_tokens:
        prompt = round(_PROMPT_SHARE * workload.row_tokens)
        return np.tile(np.array([prompt, workload.row_tokens - prompt]), (count, 1))
    measured = np.array(json.loads(LENGTHS.read_text(encoding="utf-8"))[workload.lengths])
    return np.asarray(measured[random.choice(len(measured), count)], dtype=np.int64)


def _make_rows(
    pairs: NDArray[np.int64], vocabulary: int, shared: int, random: np.random.Generator
) -> Rows:
    lengths = pairs.sum(axis=1) + shared
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = _words(int(offsets[-1]), vocabulary, random)
    if shared:
        prefix = _words(shared, vocabulary, random)
        ids[offsets[:-1, None] + np.arange(shared)] = prefix
    return Rows(ids, offsets, pairs[:, 0] + shared)


def _words(count: int, vocabulary: int, random: np.random.Generator) -> NDArray[np.int32]:
    # Zipf with Mandelbrot's shift; which id is frequent is shuffled.
    share = 1 / (np.arange(vocabulary - _SPECIAL) + 2.7)
    ranks = random.choice(len(share), count, p=share / share.sum())
    by_rank = np.random.default_rng(0).permutation(len(share)) + _SPECIAL
    return np.asarray(by_rank[ranks], dtype=np.int32)
