"""Pairs of rows that are nearly the same.

MinHash signatures (Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900) of the prompts are
cut into 32 bands; prompts that share a band are compared exactly. Signatures are never stored:
they differ between versions of the library.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunefork.data.doctor.rows import Row, words

_BANDS, _ROWS_PER_BAND = 32, 3  # finds 98.6 % of pairs at Jaccard 0.5, 99.9 % at 0.6
_HASHES = _BANDS * _ROWS_PER_BAND
_SEED = 7
_LEAST_PART = 0.5  # Jaccard that prompts, and answers, must each have
_LEAST_WHOLE = 0.6  # and both together
_DOUBT = 0.2  # how far below the truth a signature's estimate may lie: four standard deviations
_FEW_WORDS, _LONG_WORD, _LETTERS = 4, 12, 4
_FEW_ANSWERS = 12  # of one prompt that are compared with those of another
_CROWD = 32  # texts in one bucket that are all compared; of more, each with the next ones
_CHUNK = 1 << 18  # pairs compared at once


class Pair(NamedTuple):
    """Two rows, by their place, and the Jaccard similarity of their shingles."""

    first: int
    second: int
    similarity: float


def shingles(text: str) -> frozenset[str]:
    """Return words and pairs of words; of a short text, or one without spaces, its letters."""
    found = words(text)
    if len(found) < _FEW_WORDS or len(text) > _LONG_WORD * len(found):
        folded = " ".join(text.casefold().split())
        return frozenset(folded[at : at + _LETTERS] for at in range(max(1, len(folded) - 3)))
    return frozenset(found) | {f"{a} {b}" for a, b in pairwise(found)}


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the size of what two sets share over the size of what they hold together."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared) if first or second else 1.0


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
        for step, at in enumerate(found[1:_CROWD], start=1):
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
    from rensa import RMinHash  # type: ignore[import-untyped]

    rows = RMinHash.digest_matrix_from_token_sets([list(each) for each in sets], _HASHES, _SEED)
    signatures = np.array(rows.to_rows(), dtype=np.uint32)  # (n, _HASHES)
    for pairs in _chunks(_banded(signatures)):
        same = np.zeros(len(pairs), dtype=np.float32)
        for at in range(0, len(pairs), 1 << 14):
            part = pairs[at : at + (1 << 14)]
            same[at : at + len(part)] = (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(1)
        yield from map(tuple, pairs[same >= _LEAST_PART - _DOUBT].tolist())


def _banded(signatures: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the pairs that share a band, each once, as (n_pairs, 2)."""
    n = len(signatures)
    mix = np.array([1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
    coded = []
    for band in range(_BANDS):
        cut = signatures[:, band * _ROWS_PER_BAND : (band + 1) * _ROWS_PER_BAND]
        keys = (cut.astype(np.uint64) * mix).sum(axis=1, dtype=np.uint64)  # (n,)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        for step in range(1, _CROWD):
            at = np.flatnonzero(keys[:-step] == keys[step:])
            if not len(at):
                break
            coded.append(order[at] * n + order[at + step])  # stable, so the earlier one is first
    found = np.unique(np.concatenate(coded)) if coded else np.empty(0, dtype=np.int64)
    return np.stack([found // n, found % n], axis=1)


def _chunks(pairs: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for at in range(0, len(pairs), _CHUNK):
        yield pairs[at : at + _CHUNK]
