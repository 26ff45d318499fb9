"""Questions by hash: which of them are the same, without keeping their texts."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tunefork.core.hashing import hash_json
from tunefork.data.example import Example

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

    def __contains__(self, text: object) -> bool:
        assert isinstance(text, str), "a set of texts"
        wanted = np.uint64(text_hash(text))
        at = np.searchsorted(self._sorted, wanted)
        return bool(at < len(self._sorted) and self._sorted[at] == wanted)


def text_hash(text: str) -> int:
    """Return a number of 64 bits that is equal for texts of the same words."""
    data = _plain(text).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=_HASH_BYTES).digest(), "big")


def prompt_key(example: Example, seed: int) -> int:
    """Return a number of 64 bits that is equal for rows with the same prompt, under one seed."""
    # The text as a reader sees it: spacing and case do not make a new question.
    turns = [[turn.role, " ".join(turn.content.split()).lower()] for turn in example.prompt]
    return int(hash_json([seed, turns]).removeprefix("sha256:")[: 2 * _HASH_BYTES], 16)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFC", text).casefold()
    return " ".join(_NO_WORD.sub("", folded).split()) or folded.strip()
