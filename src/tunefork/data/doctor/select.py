"""The rows that teach most: clean ones that stand for many others, without repeating each other.

Rule: greedy maximisation of facility location, the sum over all rows of the similarity to the
nearest chosen row (Lin and Bilmes 2011, https://aclanthology.org/P11-1052; greedy is within 1 - 1/e
of the best, Nemhauser et al. 1978). Similarity is the squared cosine of hashed TF-IDF of question
and answer, so that a few words in common count for little. A row does not stand for itself: else
those that resemble nothing would come first, each the only one to cover itself, and few rows
teach more when they are typical (Hacohen et al. 2022, https://arxiv.org/abs/2202.02794). Gains only
shrink, so most need not be worked out again (Minoux 1978). Ties go to the earlier row: no chance
is involved.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunefork.data.doctor.finding import Finding
from tunefork.data.doctor.rows import Row
from tunefork.data.doctor.vectors import Vectors, evenly, vectors

_MOST_CANDIDATES, _MOST_CLIENTS = 20_000, 4_000
_DIMENSIONS = 384
_BLOCK = 512  # candidates whose similarities to all clients are held at once
# What says nothing against a single row; what is nearly the same adds little anyway.
_HARMLESS = {
    "conflict.near",
    "duplicate.near",
    "imbalance",
    "one_to_many",
    "pii.url",
    "too_few",
    "whitespace",
}
# What need not be stood for: it says nothing, or again what another row says.
_MUTE = {"duplicate.exact", "empty"}

_Places = NDArray[np.int64]


@dataclass(frozen=True)
class Selection:
    """Which rows were chosen.

    Attributes:
        numbers: Of the chosen rows, in the order of the file.
        n_clean: Rows to choose from.
        coverage: Mean cosine (0 to 1) of all clean rows to the nearest chosen one.
    """

    numbers: tuple[int, ...]
    n_clean: int
    coverage: float


def select_rows(rows: Sequence[Row], findings: Sequence[Finding], keep: int) -> Selection:
    """Choose at most `keep` rows that nothing was found against.

    They are to stand for the others as well, each once: what is wrong with an answer does not make
    its question one that nobody asks.
    """
    mute = {n for finding in findings if finding.code in _MUTE for n in finding.rows}
    faulty = {n for finding in findings if finding.code not in _HARMLESS for n in finding.rows}
    heard = [row for row in rows if row.number not in mute]
    clean = np.array([at for at, row in enumerate(heard) if row.number not in faulty], np.int64)
    if not len(clean):
        return Selection((), 0, 0.0)
    found = vectors([f"{row.prompt}\n{row.answer}" for row in heard], _DIMENSIONS)
    candidates = clean[evenly(len(clean), max(_MOST_CANDIDATES, keep))]
    clients = evenly(len(heard), _MOST_CLIENTS)
    chosen = _Coverage(found, candidates, clients).greedy(keep)
    sample = clean[evenly(len(clean), _MOST_CLIENTS)]
    nearest = (found[sample] @ found[chosen].T).max(axis=1).clip(0, 1)
    numbers = sorted(heard[at].number for at in chosen.tolist())
    return Selection(tuple(numbers), len(clean), float(nearest.mean()))


class _Coverage:
    """How well chosen candidates stand for the clients; both are places among the vectors."""

    def __init__(self, found: Vectors, candidates: _Places, clients: _Places) -> None:
        self._found, self._candidates, self._clients = found, candidates, clients
        self._client_vectors = found[clients]

    def greedy(self, keep: int) -> _Places:
        """Return the chosen places, in the order of their gain."""
        covered = np.zeros(len(self._clients), dtype=np.float32)
        gains = np.concatenate(
            [
                self._similar(self._candidates[at : at + _BLOCK]).sum(axis=1)
                for at in range(0, len(self._candidates), _BLOCK)
            ]
        )
        heap = [(-gain, at, 0) for at, gain in enumerate(gains.tolist())]
        heapq.heapify(heap)
        chosen: list[int] = []
        while heap and len(chosen) < keep:
            _, at, known_for = heapq.heappop(heap)
            (similar,) = self._similar(self._candidates[at : at + 1])
            if known_for == len(chosen):
                chosen.append(at)
                covered = np.maximum(covered, similar)
            else:
                gain = float(np.maximum(similar - covered, 0).sum())
                heapq.heappush(heap, (-gain, at, len(chosen)))
        return self._candidates[np.array(chosen, np.int64)]

    def _similar(self, places: _Places) -> Vectors:
        """Return the squared cosines to all clients, (n_places, n_clients); 0 to itself."""
        cosines: Vectors = np.maximum(self._found[places] @ self._client_vectors.T, 0)
        cosines[places[:, None] == self._clients[None, :]] = 0
        cosines **= 2
        return cosines
