"""Keys and values of prompts that were computed before, for prompts that begin alike.

A prompt is cut into blocks; a block's name is a hash over its tokens and all before them, whose
they are and which adapter computed them. So nobody finds what another owner left, and a block is
the same wherever it is found.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

BLOCK = 32  # tokens; a multiple of what a chunk of a prompt is padded to
Kept = list[torch.Tensor]  # keys, values of each layer in turn: (key heads, BLOCK, head size)


def block_names(owner: str, adapter: str, prompt: Sequence[int]) -> list[bytes]:
    """Return the name of each block of a prompt; the last token is in none.

    Args:
        owner: Whose prompt it is.
        adapter: What computes it: a hash of its files, or nothing for the base.
        prompt: Token ids.
    """
    name = hashlib.blake2b(f"{len(owner)}:{owner}{adapter}".encode(), digest_size=16).digest()
    ids = np.asarray(prompt, dtype=np.int64)
    names = []
    for begin in range(0, len(prompt) - BLOCK, BLOCK):
        part = name + ids[begin : begin + BLOCK].tobytes()
        name = hashlib.blake2b(part, digest_size=16).digest()
        names.append(name)
    return names


class PrefixCache:
    """Blocks within a budget; the least recently used leave."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self._blocks: OrderedDict[bytes, Kept] = OrderedDict()

    def find(self, names: Sequence[bytes]) -> list[Kept]:
        """Return the blocks that are there, from the first on."""
        there = list(itertools.takewhile(self._blocks.__contains__, names))
        for name in reversed(there):  # a block is of no use without those before it
            self._blocks.move_to_end(name)
        return [self._blocks[name] for name in there]

    def __contains__(self, name: bytes) -> bool:
        """Say whether a block is there."""
        return name in self._blocks

    def keep(self, name: bytes, kept: Kept) -> None:
        """Keep a block."""
        size = _size(kept)
        if name in self._blocks or size > self.budget_bytes:
            return
        while self.size_bytes + size > self.budget_bytes:
            _, oldest = self._blocks.popitem(last=False)
            self.size_bytes -= _size(oldest)
        self._blocks[name] = kept
        self.size_bytes += size

    def clear(self) -> None:
        """Forget all blocks."""
        self._blocks.clear()
        self.size_bytes = 0


def _size(kept: Kept) -> int:
    return sum(states.numel() * states.element_size() for states in kept)
