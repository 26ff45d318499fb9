"""The linear classifier on words, on the test texts: `python examples/banking/baseline.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tunefork.data import read_labelled
from tunefork.evaluation.bag_of_words import bag_of_words

_HERE = Path(__file__).parent


def main() -> None:
    """Learn from `clean.jsonl`, and print how many texts of `test.csv` are told rightly."""
    known, asked = (read_labelled(_HERE / name) for name in ("clean.jsonl", "test.csv"))
    every = np.arange(len(known.rows)), np.arange(len(asked.rows))
    names = known.names(every[0])
    labels, right = known.column(names, every[0]), asked.column(names, every[1])
    given = bag_of_words(known.texts(every[0]), labels.astype(np.int64), asked.texts(every[1]))
    print(f"linear on words: {np.mean(given == right):.1%} of {len(right):,} test texts")


if __name__ == "__main__":
    main()
