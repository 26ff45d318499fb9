"""Pairs of rows that are nearly the same.

MinHash signatures of the prompts are cut into 32 bands; prompts that share a band are compared
exactly. See `shingles`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunefork.data.doctor.rows import Row
from tunefork.data.shingles import (
    BANDS,
    CROWD,
    ROWS_PER_BAND,
    Signatures,
    jaccard,
    shingles,
    signatures,
)

_LEAST_PART = 0.5  # Jaccard that prompts, and answers, must each have
_LEAST_WHOLE = 0.6  # and both together
_DOUBT = 0.2  # how far below the truth a signature's estimate may lie: four standard deviations
_FEW_ANSWERS = 12  # of one prompt that are compared with those of another
_CHUNK = 1 << 18  # pairs compared at once


class Pair(NamedTuple):
    """Two rows, by their place, and the Jaccard similarity of their shingles."""

    first: int
    second: int
    similarity: float


def near_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Return pairs of rows whose prompts and answers are nearly, not quite, the same."""
    prompts: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        prompts.setdefault(row.prompt_key, []).append(at)
    # One row stands for all with its prompt and answer: the others are exact duplicates.
    places = [_one_per_answer(rows, found) for found in prompts.values()]
    asked = [shingles(rows[found[0]].prompt) for found in places]
    compare = _Comparison(rows)
    pairs: list[Pair] = []
    for first, second in _candidates(asked):
        similarity = jaccard(asked[first], asked[second])
        if similarity >= _LEAST_PART:
            pairs += compare.groups(places[first], places[second], similarity)
    for found in places:  # one prompt, answers that are nearly the same
        for step, at in enumerate(found[1:CROWD], start=1):
            pairs += compare.groups(found[:step], [at], 1.0)
    return sorted(pairs)


def _one_per_answer(rows: Sequence[Row], places: list[int]) -> list[int]:
    return list({rows[at].answer_key: at for at in reversed(places)}.values())[::-1]


class _Comparison:
    """Compares rows whose prompts are alike, each text cut into shingles once."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._answers: dict[int, frozenset[str]] = {}
        self._wholes: dict[int, frozenset[str]] = {}

    def groups(self, first: list[int], second: list[int], prompts: float) -> Iterator[Pair]:
        """Yield the pairs whose answers are alike as well."""
        for one in first[:_FEW_ANSWERS]:
            for other in second[:_FEW_ANSWERS]:
                if self._rows[one].answer_key == self._rows[other].answer_key:
                    whole = prompts
                elif jaccard(self._answer(one), self._answer(other)) < _LEAST_PART:
                    continue
                else:
                    whole = jaccard(self._whole(one), self._whole(other))
                if whole >= _LEAST_WHOLE:
                    yield Pair(min(one, other), max(one, other), whole)

    def _answer(self, at: int) -> frozenset[str]:
        if at not in self._answers:
            self._answers[at] = shingles(self._rows[at].answer)
        return self._answers[at]

    def _whole(self, at: int) -> frozenset[str]:
        if at not in self._wholes:
            self._wholes[at] = shingles(self._rows[at].prompt) | self._answer(at)
        return self._wholes[at]


def _candidates(sets: list[frozenset[str]]) -> Iterator[tuple[int, int]]:
    """Yield pairs of sets that are probably similar."""
    if len(sets) < 2:
        return
    signed = signatures(sets)
    for pairs in _chunks(_banded(signed)):
        same = np.zeros(len(pairs), dtype=np.float32)
        for at in range(0, len(pairs), 1 << 14):
            part = pairs[at : at + (1 << 14)]
            same[at : at + len(part)] = (signed[part[:, 0]] == signed[part[:, 1]]).mean(1)
        yield from map(tuple, pairs[same >= _LEAST_PART - _DOUBT].tolist())


def _banded(signed: Signatures) -> NDArray[np.int64]:
    """Return the pairs that share a band, each once, as (n_pairs, 2)."""
    n = len(signed)
    mix = np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
    coded = []
    for band in range(BANDS):
        cut = signed[:, band * ROWS_PER_BAND : (band + 1) * ROWS_PER_BAND]
        keys = (cut.astype(np.uint64) * mix).sum(axis=1, dtype=np.uint64)  # (n,)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for step in range(1, CROWD):
            at = np.flatnonzero(keys[:-step] == keys[step:])
            if not len(at):
                break
            coded.append(order[at] * n + order[at + step])  # stable, so the earlier one is first
    found = np.unique(np.concatenate(coded)) if coded else np.empty(0, dtype=np.int64)
    return np.stack([found // n, found % n], axis=1)


def _chunks(pairs: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for at in range(0, len(pairs), _CHUNK):
        yield pairs[at : at + _CHUNK]
