"""Measure how long real rows are, in GPT-2 tokens: makes `lengths.json`, which holds no text.

    python -m benchmarks.measure_lengths DATA_FOLDER

DATA_FOLDER holds `bitext_customer_support`, `gsm8k`, `hh_rlhf_harmless_test` and
`tokenizer_gpt2_tiktoken`.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers

from benchmarks.places import LENGTHS

_ROWS = 2000  # kept of each data set
_SUPPORT = "Bitext_Sample_Customer_Support_Training_Dataset__3.5MB.csv"
_END = 1  # the token that ends an answer


class _Gpt2:
    """Counts the tokens of a text by the published merge ranks."""

    def __init__(self, path: Path) -> None:
        lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
        self._ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        self._split = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._count_piece = lru_cache(maxsize=None)(self._merge)

    def count(self, text: str) -> int:
        pieces = self._split.pre_tokenize_str(text)
        return sum(self._count_piece(text[begin:end].encode()) for _, (begin, end) in pieces)

    def _merge(self, piece: bytes) -> int:
        parts = [piece[place : place + 1] for place in range(len(piece))]
        while len(parts) > 1:
            pairs = [self._ranks.get(a + b) for a, b in pairwise(parts)]
            found = [rank for rank in pairs if rank is not None]
            if not found:
                break
            place = pairs.index(min(found))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return len(parts)


def _support(folder: Path) -> list[tuple[str, str]]:
    path = folder / "bitext_customer_support" / _SUPPORT
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [(row["instruction"], row["response"]) for row in csv.DictReader(file)]


def _math(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["question"], row["answer"]) for row in map(json.loads, lines)]


def _preferences(folder: Path) -> list[tuple[str, str, str]]:
    """Return what both transcripts begin with, up to the last turn, and how each goes on."""
    path = folder / "hh_rlhf_harmless_test" / "harmless-base_test.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        chosen, rejected = (json.loads(line)[key] for key in ("chosen", "rejected"))
        prompt, _, answer = chosen.rpartition("\n\nAssistant:")
        if answer and rejected.startswith(prompt):
            found.append((f"{prompt}\n\nAssistant:", answer, rejected[len(prompt) + 12 :]))
    return found


def _pair_lengths(pairs: list[tuple[str, str, str]], tokens: _Gpt2) -> list[list[int]]:
    chosen = np.random.default_rng(0).permutation(len(pairs))[:_ROWS]
    return [
        [tokens.count(pairs[i][0]), *(tokens.count(each) + _END for each in pairs[i][1:])]
        for i in chosen
    ]


def _lengths(pairs: list[tuple[str, str]], tokens: _Gpt2) -> list[list[int]]:
    chosen = np.random.default_rng(0).permutation(len(pairs))[:_ROWS]
    return [
        [tokens.count(f"User: {pairs[i][0]}\n\nAssistant:"), tokens.count(" " + pairs[i][1]) + _END]
        for i in chosen
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data: Path = parser.parse_args().data
    tokens = _Gpt2(data / "tokenizer_gpt2_tiktoken" / "gpt2.tiktoken")
    found = {
        "support": _lengths(_support(data), tokens),
        "math": _lengths(_math(data), tokens),
        "preferences": _pair_lengths(_preferences(data), tokens),
    }
    LENGTHS.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
