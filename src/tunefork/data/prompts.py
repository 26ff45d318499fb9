"""Questions by hash: which of them are the same, without keeping their texts."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tunefork.core.hashing import hash_json
from tunefork.data.example import Labelled, Row, Text

_HASH_BYTES = 8  # among a million texts two are taken for one with a chance of 3 in 100 million
_NO_WORD = re.compile(r"[^\w\s]|_")


class Prompts:
    """A set of texts. Case, punctuation and white space do not count."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._sorted = np.unique(hashes)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Prompts:
        """Return the set of some texts."""
        return cls(np.fromiter(map(text_hash, texts), np.uint64))

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The `text_hash` of each, in ascending order."""
        return self._sorted

    def among(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say of each of some texts, by `text_hash`, whether it is in the set."""
        return np.isin(hashes, self._sorted)

    def __and__(self, other: Prompts) -> Prompts:
        return Prompts(np.intersect1d(self._sorted, other.hashes, assume_unique=True))

    def __contains__(self, text: object) -> bool:
        assert isinstance(text, str), "a set of texts"
        wanted = np.uint64(text_hash(text))
        at = np.searchsorted(self._sorted, wanted)
        return bool(at < len(self._sorted) and self._sorted[at] == wanted)


def text_hash(text: str) -> int:
    """Return a number of 64 bits that is equal for texts of the same words."""
    data = _plain(text).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=_HASH_BYTES).digest(), "big")


def prompt_key(row: Row, seed: int) -> int:
    """Return a number of 64 bits that is equal for rows with the same prompt, under one seed.

    Of a text, labelled or alone, it is the text.
    """
    if isinstance(row, Labelled | Text):
        turns = [["user", _as_seen(row.text)]]
    else:
        turns = [[turn.role, _as_seen(turn.content)] for turn in row.prompt]
    return int(hash_json([seed, turns]).removeprefix("sha256:")[: 2 * _HASH_BYTES], 16)


def _as_seen(text: str) -> str:
    """Return a text as a reader sees it: spacing and case do not make a new question."""
    return " ".join(text.split()).lower()


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(_NO_WORD.sub("", folded).split()) or folded.strip()
