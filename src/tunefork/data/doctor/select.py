"""The rows that teach most: clean ones that together stand for all, without repeating each other.

Rule: greedy maximisation of facility location, the sum over all rows of the similarity to the
nearest chosen row (Lin and Bilmes 2011, https://aclanthology.org/P11-1052; greedy is within 1 - 1/e
of the best, Nemhauser et al. 1978), on hashed TF-IDF of question and answer. Gains only shrink, so
most need not be worked out again (Minoux 1978). Ties go to the earlier row: no chance is involved.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunefork.data.doctor.finding import Finding
from tunefork.data.doctor.rows import Row
from tunefork.data.doctor.vectors import Vectors, evenly, vectors

_MOST_CANDIDATES, _MOST_CLIENTS = 20_000, 4_000
_DIMENSIONS = 384
# What says nothing against a single row.
_HARMLESS = {"conflict.near", "imbalance", "one_to_many", "too_few", "pii.url", "whitespace"}


@dataclass(frozen=True)
class Selection:
    """Which rows were chosen.

    Attributes:
        numbers: Of the chosen rows, in the order of the file.
        n_clean: Rows to choose from.
        coverage: Mean similarity (0 to 1) of all clean rows to the nearest chosen one.
    """

    numbers: tuple[int, ...]
    n_clean: int
    coverage: float


def select_rows(rows: Sequence[Row], findings: Sequence[Finding], keep: int) -> Selection:
    """Choose at most `keep` rows that nothing was found against."""
    faulty = {
        number for finding in findings if finding.code not in _HARMLESS for number in finding.rows
    }
    clean = [row for row in rows if row.number not in faulty]
    if not clean:
        return Selection((), 0, 0.0)
    texts = [f"{row.prompt}\n{row.answer}" for row in clean]
    found = vectors(texts, _DIMENSIONS)
    candidates = evenly(len(clean), max(_MOST_CANDIDATES, keep))
    clients = found[evenly(len(clean), _MOST_CLIENTS)]
    chosen = candidates[_greedy(found[candidates], clients, keep)]
    nearest = (clients @ found[chosen].T).max(axis=1).clip(0, 1)
    numbers = sorted(clean[at].number for at in chosen)
    return Selection(tuple(numbers), len(clean), float(nearest.mean()))


def _greedy(candidates: Vectors, clients: Vectors, keep: int) -> list[int]:
    """Return the places of the chosen candidates, in the order of their gain."""
    covered = np.zeros(len(clients), dtype=np.float32)
    gains = np.concatenate(
        [
            np.maximum(candidates[begin : begin + 512] @ clients.T, 0).sum(axis=1)
            for begin in range(0, len(candidates), 512)
        ]
    )
    heap = [(-float(gain), at, 0) for at, gain in enumerate(gains)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < keep:
        _, at, known_for = heapq.heappop(heap)
        similar = clients @ candidates[at]
        if known_for == len(chosen):
            chosen.append(at)
            covered = np.maximum(covered, similar)
        else:
            gain = float(np.maximum(similar - covered, 0).sum())
            heapq.heappush(heap, (-gain, at, len(chosen)))
    return chosen
