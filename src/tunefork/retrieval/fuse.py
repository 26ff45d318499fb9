"""Join ranked lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

# Keeps one list's first place from outweighing all else. The paper's 60 is for lists of a thousand;
# of these a hundred are taken, and what stands low in one list should not outdo what leads another.
_DAMPING = 10


def reciprocal_ranks(
    lists: Sequence[Sequence[int]], weights: Sequence[float]
) -> list[tuple[int, float]]:
    """Return all items with sum(weight / (10 + rank)) over the lists they stand in, best first.

    Cormack, Clarke & Buettcher 2009, "Reciprocal Rank Fusion". Ranks count from 1; of equals the
    one with the smaller number comes first.

    Args:
        lists: Each best first.
        weights: How much each list counts.
    """
    scores: defaultdict[int, float] = defaultdict(float)
    for ranked, weight in zip(lists, weights, strict=True):
        for rank, item in enumerate(ranked, start=1):
            scores[item] += weight / (_DAMPING + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
