"""Texts as vectors: TF-IDF weights of words and pairs of words, hashed into a few hundred numbers.

Signed feature hashing (Weinberger et al. 2009, https://arxiv.org/abs/0902.2206) keeps inner
products right on average.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tunefork.data.shingles import words

Vectors = NDArray[np.float32]
_BLOCK = 1024


def vectors(texts: Sequence[str], dimensions: int = 512) -> Vectors:
    """Return unit vectors (n_texts, dimensions); a text without words is zero."""
    vocabulary: dict[str, int] = {}
    rows, ids = [], []  # one entry for each distinct feature of a text
    for at, text in enumerate(texts):
        found = words(text)
        features = {*found, *map(" ".join, pairwise(found))}
        for feature in sorted(features):
            rows.append(at)
            ids.append(vocabulary.setdefault(feature, len(vocabulary)))
    flat = np.asarray(ids, dtype=np.int64)
    hashes = np.fromiter((zlib.crc32(each.encode("utf-8", "replace")) for each in vocabulary), "u4")
    frequency = np.bincount(flat, minlength=len(vocabulary))
    weights = np.log((1 + len(texts)) / (1 + frequency)) + 1.0 if len(vocabulary) else np.empty(0)
    signs = np.where(hashes & 1, 1.0, -1.0)
    columns = (hashes >> 1) % dimensions
    found_vectors = np.zeros((len(texts), dimensions), dtype=np.float32)
    values = (weights * signs).astype(np.float32)
    np.add.at(found_vectors, (np.asarray(rows, dtype=np.int64), columns[flat]), values[flat])
    norms = np.linalg.norm(found_vectors, axis=1, keepdims=True)
    return np.asarray(found_vectors / np.maximum(norms, 1e-9), dtype=np.float32)


def nearest(
    asked: Vectors, known: Vectors, k: int, *, skip_self: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the places and cosines of the k nearest of `known`, both (n_asked, k).

    With `skip_self`, row i of `asked` is row i of `known` and does not count.
    """
    k = min(k, len(known) - skip_self)
    places = np.zeros((len(asked), k), dtype=np.int64)
    cosines = np.zeros((len(asked), k), dtype=np.float32)
    for begin in range(0, len(asked), _BLOCK):
        block = asked[begin : begin + _BLOCK] @ known.T  # (block, n_known)
        if skip_self:
            block[np.arange(len(block)), np.arange(begin, begin + len(block))] = -2
        best = (
            np.argpartition(-block, k - 1, axis=1)[:, :k]
            if k < block.shape[1]
            else (np.broadcast_to(np.arange(block.shape[1]), block.shape))
        )
        found = np.take_along_axis(block, best, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        places[begin : begin + _BLOCK] = np.take_along_axis(best, order, axis=1)
        cosines[begin : begin + _BLOCK] = np.take_along_axis(found, order, axis=1)
    return places, cosines


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` places of n, spread evenly."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, most).astype(np.int64))
