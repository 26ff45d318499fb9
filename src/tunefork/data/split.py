"""Hold rows out for validation, so that no question is both trained on and asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunefork.core.errors import SpecError
from tunefork.core.hashing import hash_json
from tunefork.data.example import Example


def split(
    examples: Sequence[Example],
    share: float,
    seed: int,
    *,
    minimum: int = 8,  # below this a validation loss is noise
    maximum: int = 512,  # beyond this it only costs time
) -> tuple[list[Example], list[Example]]:
    """Divide examples into (training, validation), both in the order they came in.

    Rows with the same prompt stay together. Which prompts are held out depends on their text
    and the seed, not on the order of the rows. `minimum` and `maximum` bound the number of
    rows held out; never more than half of them. With fewer than two prompts, or a share of
    0, nothing is held out.

    Raises:
        SpecError: where the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise SpecError(
            f"cannot hold out a share of {share}", hint="choose a share from 0 to below 1"
        )
    keys = [_prompt_key(example, seed) for example in examples]
    sizes = Counter(keys)
    if share == 0 or len(sizes) < 2:
        return list(examples), []
    wanted = min(max(round(share * len(keys)), minimum), maximum, len(keys) // 2)
    held_out = _choose(sizes, max(wanted, 1))
    training = [row for row, key in zip(examples, keys, strict=True) if key not in held_out]
    validation = [row for row, key in zip(examples, keys, strict=True) if key in held_out]
    return training, validation


def _prompt_key(example: Example, seed: int) -> str:
    # The text as a reader sees it: spacing and case do not make a new question.
    turns = [[turn.role, " ".join(turn.content.split()).lower()] for turn in example.prompt]
    return hash_json([seed, turns])


def _choose(sizes: Counter[str], wanted: int) -> set[str]:
    """Take whole groups in the order of their hash while they fit; at least the smallest one."""
    chosen: set[str] = set()
    for key in sorted(sizes):
        if sizes[key] <= wanted:
            chosen.add(key)
            wanted -= sizes[key]
    return chosen or {min(sizes, key=lambda key: (sizes[key], key))}
