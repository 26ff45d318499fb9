"""Join ranked lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

_DAMPING = 60  # the paper's: keeps one list's first place from outweighing all others


def reciprocal_ranks(lists: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """Return all items with sum(1 / (60 + rank)) over the lists they stand in, best first.

    Cormack, Clarke & Buettcher 2009, "Reciprocal Rank Fusion". Ranks count from 1; of equals the
    one with the smaller number comes first.
    """
    scores: defaultdict[int, float] = defaultdict(float)
    for ranked in lists:
        for rank, item in enumerate(ranked, start=1):
            scores[item] += 1 / (_DAMPING + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
