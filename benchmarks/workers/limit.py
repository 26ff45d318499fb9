"""Measure how long the bare matrix products of the same steps take: nobody can be faster.

Per linear layer: forward, and backward to its input; LoRA's low-rank products, or for full
training the products that make the weights' gradients. Per row: the four kinds of attention
product at full length. The output head at trained places only; a prefix that all rows share once.
One buffer per shape, weights of their own per layer, the number format of the cell.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.workers.common import RANK, Job, Rows, run_worker, versions

_DTYPES = {"float32": torch.float32}  # all other formats multiply in bf16
_PASSES = 3
_TOKENS_AT_ONCE = 2048  # past that the activations leave the cache

LORA_FLOPS = (
    "per token and layer 4 * sum(in * out) + 6 * r * sum(in + out) over its linear layers; "
    "per row of L tokens and layer 6 * heads * head_size * L^2; per trained token 4 * hidden * "
    "vocabulary"
)


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def of(cls, folder: str) -> Shape:
        """Read them from a model's folder."""
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            mlp=config["intermediate_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            key_heads=config["num_key_value_heads"],
            head_size=config.get("head_dim") or config["hidden_size"] // heads,
            vocabulary=config["vocab_size"],
        )

    def linear(self) -> list[tuple[int, int]]:
        """Return (in, out) of each linear layer of one block."""
        query, key = self.heads * self.head_size, self.key_heads * self.head_size
        return [
            (self.hidden, query),
            (self.hidden, key),
            (self.hidden, key),
            (query, self.hidden),
            (self.hidden, self.mlp),
            (self.hidden, self.mlp),
            (self.mlp, self.hidden),
        ]

    def lora_flops(self, lengths: Sequence[int], n_trained: int, rank: int = RANK) -> float:
        """Return what training LoRA on some rows takes at least, by `LORA_FLOPS`.

        With N the weights of all linear layers, each token costs 2 N forward and 2 N backward to
        the inputs; frozen weights have no gradients. Low-rank weights cost 2 forward, 2 to the
        inputs and 2 to their gradients. Causal attention is two products forward and four
        backward, each over half the square. The head counts at trained tokens, forward and
        backward. What is computed again, or padding, does not count.

        Args:
            lengths: Tokens of each row.
            n_trained: Tokens of all rows that are trained.
            rank: Of the adapters.
        """
        frozen = sum(into * out for into, out in self.linear())
        low = rank * sum(into + out for into, out in self.linear())
        squares = sum(length**2 for length in lengths)
        per_layer = (4 * frozen + 6 * low) * sum(lengths)
        per_layer += 6 * self.heads * self.head_size * squares
        return float(self.layers * per_layer + 4 * self.hidden * self.vocabulary * n_trained)


class _Products:
    """All weights, and one buffer of random numbers per shape."""

    def __init__(self, shape: Shape, dtype: torch.dtype, *, is_full: bool) -> None:
        self.shape, self.dtype, self.is_full = shape, dtype, is_full
        self._buffers: dict[tuple[int, ...], torch.Tensor] = {}
        self._results: dict[tuple[int, ...], torch.Tensor] = {}
        self._weights = [
            [torch.randn(out, into, dtype=dtype) for into, out in shape.linear()]
            for _ in range(shape.layers)
        ]
        self._head = torch.randn(shape.vocabulary, shape.hidden, dtype=dtype)

    def buffer(self, *size: int) -> torch.Tensor:
        if size not in self._buffers:
            self._buffers[size] = torch.randn(*size, dtype=self.dtype)
        return self._buffers[size]

    def multiply(self, a: torch.Tensor, b: torch.Tensor) -> None:
        """Multiply into a buffer of its own, so that no fresh memory is asked for."""
        size = (*a.shape[:-1], b.shape[-1])
        if size not in self._results:
            self._results[size] = torch.empty(size, dtype=self.dtype)
        torch.matmul(a, b, out=self._results[size])

    def micro_batch(self, lengths: list[int], n_tokens: int, n_trained: int) -> None:
        """Multiply all that one packed row of documents of these lengths needs.

        Args:
            lengths: Of each document.
            n_tokens: Places to compute; fewer than the lengths' sum where documents share some.
            n_trained: Places that reach the output head.
        """
        for weights in self._weights:
            for weight in weights:
                self._linear(weight, n_tokens)
            for length in lengths:
                self._attention(length)
        states, logits = (
            self.buffer(n_trained, self.shape.hidden),
            self.buffer(n_trained, self.shape.vocabulary),
        )
        self.multiply(states, self._head.T)
        self.multiply(logits, self._head)
        if self.is_full:
            self.multiply(logits.T, states)

    def _linear(self, weight: torch.Tensor, n_tokens: int) -> None:
        out, into = weight.shape
        x, y = self.buffer(n_tokens, into), self.buffer(n_tokens, out)
        self.multiply(x, weight.T)
        self.multiply(y, weight)
        if self.is_full:
            self.multiply(y.T, x)
            return
        low, down, up = (
            self.buffer(n_tokens, RANK),
            self.buffer(RANK, into),
            self.buffer(out, RANK),
        )
        self.multiply(x, down.T)
        self.multiply(low, up.T)
        self.multiply(y, up)
        self.multiply(y.T, low)
        self.multiply(low.T, x)
        self.multiply(low, down)

    def _attention(self, length: int) -> None:
        # Heads that share a key head are folded into the time axis, so keys are not copied.
        key_heads, size = self.shape.key_heads, self.shape.head_size
        folded = length * (self.shape.heads // key_heads)
        query, key = self.buffer(key_heads, folded, size), self.buffer(key_heads, length, size)
        scores = self.buffer(key_heads, folded, length)
        self.multiply(query, key.mT)  # scores; backward: gradient of the weights
        self.multiply(query, key.mT)
        self.multiply(scores, key)  # mixed values; backward: gradient of the query
        self.multiply(scores, key)
        self.multiply(scores.mT, query)  # backward: gradients of key and value
        self.multiply(scores.mT, query)


def _micro_batches(step: list[int], rows: Rows) -> Iterator[list[int]]:
    chosen: list[int] = []
    for row in step:
        if chosen and int(rows.lengths[[*chosen, row]].sum()) > _TOKENS_AT_ONCE:
            yield chosen
            chosen = []
        chosen = [*chosen, row]
    yield chosen


@torch.no_grad()
def measure(job: Job, rows: Rows) -> dict[str, Any]:
    """Time the products of every counted step: the fastest of some passes, after one untimed."""
    dtype = _DTYPES.get(job.cell["dtype"], torch.bfloat16)
    products = _Products(Shape.of(job.model), dtype, is_full=job.adapter is None)
    seconds, n_real = 0.0, 0
    for step in job.steps[job.warm_up :]:
        passes = []
        for _ in range(1 + _PASSES):
            begin = time.perf_counter()
            for chosen in _micro_batches(step, rows):
                lengths = rows.lengths[chosen]
                n_trained = int((lengths - rows.prompts[chosen]).sum())
                n_tokens = int(lengths.sum()) - job.shared * (len(chosen) - 1)
                products.micro_batch(lengths.tolist(), n_tokens, n_trained)
            passes.append(time.perf_counter() - begin)
        seconds += min(passes[1:])
        n_real += int(rows.lengths[step].sum())
    return {"tokens_per_second": n_real / seconds, "seconds": [seconds], "versions": versions()}


if __name__ == "__main__":
    run_worker(measure)
