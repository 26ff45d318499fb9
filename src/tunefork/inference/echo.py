"""Guess how a text goes on, so that a greedy step may check several tokens at once.

Models copy from their prompt, and small ones go round in circles: what followed when the last
tokens came before is a good guess (Saxena 2023, prompt lookup decoding). A guess is checked by
computing it; what is kept is what step by step would have given (Leviathan et al. 2023, arXiv
2211.17192).
"""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 8  # tokens of a row in a wide step: the last one, and guesses
_ALIKE = 3  # last tokens that are looked for
_WORTH = 4.0  # right guesses of a row, on average, from which on a wide step pays


class Echo:
    """What one row has said, and how good guesses from it were lately."""

    def __init__(self) -> None:
        self._after: dict[tuple[int, ...], int] = {}  # where tokens went on that came before
        self._known = _ALIKE  # tokens before which all is noted
        self._guess: list[int] = []
        self._right = 0.0  # guesses in a row that may be expected to be right

    def guess(self, tokens: Sequence[int]) -> list[int]:
        """Return how a row may go on, `WIDTH` - 1 tokens; nothing where it says something new."""
        for end in range(self._known, len(tokens)):
            self._after[tuple(tokens[end - _ALIKE : end])] = end
        self._known = max(self._known, len(tokens))
        begin = self._after.get(tuple(tokens[-_ALIKE:]))
        self._guess = []
        if begin is not None:
            going_on = list(tokens[begin : begin + WIDTH - 1])
            for at in range(WIDTH - 1 - len(going_on)):  # a circle that is shorter
                going_on.append(going_on[at])
            self._guess = going_on
        return self._guess

    @property
    def expected(self) -> float:
        """How many tokens of the last guess may be right."""
        return self._right if self._guess else 0.0

    def check(self, found: Sequence[int]) -> int:
        """Return how many tokens of the last guess were right.

        Args:
            found: What the model says comes next, and after each token of the guess as far as that
                was computed.
        """
        right = 0
        while right < min(len(self._guess), len(found)) and self._guess[right] == found[right]:
            right += 1
        if len(found) > 1 or not right:
            self._right = float(right)
        elif self._guess:
            self._right = min(self._right + 1, WIDTH - 1)
        return min(right, len(found) - 1)


def is_worth(echoes: Sequence[Echo]) -> bool:
    """Say whether a wide step pays for these rows."""
    return sum(each.expected for each in echoes) >= _WORTH * len(echoes)
