"""The cells of the grid: how a contestant is set up. The same axes for everyone.

`dtype`: `bf16` computes in bf16 with whatever the contestant keeps in float32 (adapters, and
masters where it has them), `float32` computes in float32. Two more that only the peers have:
`bf16_pure`, adapters in bf16 too, and `amp`, float32 weights under automatic mixed precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal

from benchmarks.workloads import Order

OURS = "ours"
PEERS = ("trl", "trainer")
CONTESTANTS = (OURS, *PEERS)
ELSEWHERE = (*PEERS, "trl_dpo")  # workers that run in the peers' environment

Dtype = Literal["bf16", "float32", "bf16_pure", "amp"]


@dataclass(frozen=True)
class Cell:
    """One contestant, set up in one way."""

    contestant: str
    dtype: Dtype = "bf16"
    is_checkpointed: bool = False  # activations computed again instead of kept
    order: Order = "plain"
    is_packed: bool = False  # rows end to end without padding; we always do
    rows_at_once: int = 0  # 0 is the contestant's own choice: peers a whole step, we 2,048 tokens
    is_compiled: bool = False
    allocator: str = "glibc"

    @property
    def name(self) -> str:
        """What the tables call it."""
        parts: list[str] = [self.dtype, self.order]
        parts += ["recompute"] if self.is_checkpointed else []
        parts += ["packed"] if self.is_packed else []
        parts += [f"{self.rows_at_once} at once"] if self.rows_at_once else []
        parts += ["compiled"] if self.is_compiled else []
        parts += [self.allocator] if self.allocator != "glibc" else []
        return ", ".join(parts)

    def settings(self) -> dict[str, Any]:
        """Return what the worker needs to know."""
        return asdict(self)


def grid(contestant: str, *, is_quick: bool = False) -> list[Cell]:
    """Return the cells that are screened first."""
    if is_quick:
        bf16 = [Cell(contestant, "bf16", checkpointed, "grouped") for checkpointed in (False, True)]
        return [*bf16, Cell(contestant, "float32", order="grouped")]
    dtypes: Sequence[Dtype] = ("bf16", "float32")
    orders: Sequence[Order] = ("plain", "grouped")
    return [
        Cell(contestant, dtype, checkpointed, order)
        for dtype, checkpointed, order in product(dtypes, (False, True), orders)
    ]


def variations(contestant: str, allocators: Sequence[str], *, is_quick: bool) -> list[list[Any]]:
    """Return axes that are varied in turn at the fastest and leanest cell found so far.

    Each axis is a list of changes, a dictionary of `Cell`'s fields each.
    """
    is_peer = contestant in PEERS
    packing: list[Any] = [{"is_packed": True}] if is_peer else []
    faster: list[Any] = [{"allocator": name} for name in allocators]
    if is_quick:
        # Full training in bf16 needs masters, which the peers keep under `amp` only.
        masters: list[Any] = [{"dtype": "amp"}] if is_peer else []
        return [masters, faster[:1]]
    return [
        [{"dtype": "bf16_pure"}, {"dtype": "amp"}] if is_peer else [],
        packing,
        [{"rows_at_once": 1}, {"rows_at_once": 2}],
        [{"is_compiled": True}],
        faster,
    ]


def varied(start: Cell, axis: list[Any]) -> list[Cell]:
    """Return the cells that one axis leads to from a cell."""
    return [replace(start, **change) for change in axis]
