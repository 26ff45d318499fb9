"""Rows made for the doctor's tests."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tunefork.core.errors import Where
from tunefork.data.doctor import Context, Finding, Row, Rows, examine
from tunefork.data.doctor.rows import row_of
from tunefork.data.example import Example, Message

_WORDS = re.findall(
    r"\w+",
    "apple boat clock drum eagle fork gate hat island jacket kettle ladder mirror needle oven "
    "pencil quilt river saddle table umbrella valley window yard bridge candle desert engine "
    "feather garden hammer insect jewel kitchen lemon market nest ocean paper rabbit shoulder "
    "tower uncle village weather beach copper dinner elbow forest grain harbour iron journey "
    "knife lantern mountain nature orange pocket queen road spoon train theatre wagon winter "
    "castle doctor button ticket bottle carpet basket farmer teacher butter morning evening "
    "silver letter summer corner number flower animal monkey",
)


def make_rows(pairs: Iterable[tuple[str, str]]) -> list[Row]:
    return [
        row_of(
            Example((Message("user", asked), Message("assistant", said)), Where("made", number)),
            number,
        )
        for number, (asked, said) in enumerate(pairs, start=1)
    ]


def good_pairs(n: int = 40) -> list[tuple[str, str]]:
    """Return sound rows that no check but those on numbers has a reason to mention."""
    made = random.Random(5)
    pairs = []
    for _ in range(n):
        a, b, c, d, e, f, g, h, i, j = made.sample(_WORDS, 10)
        pairs.append(
            (
                f"Why is the {a} {b} of my {c} near a {d} {i} or the {j} {e}?",
                f"Because the {e} was with your {a} until this {f}, and some {g} "
                f"from the other {h} should be there.",
            )
        )
    return pairs


def context(pairs: Iterable[tuple[str, str]], **others: object) -> Context:
    return Context(Rows(make_rows(pairs), []), **others)  # type: ignore[arg-type]


def find(pairs: Iterable[tuple[str, str]], code: str, **others: object) -> Finding | None:
    """Return the finding with a code, or None."""
    found = [each for each in examine(context(pairs, **others)) if each.code == code]
    assert len(found) <= 1
    return found[0] if found else None


def codes(pairs: Iterable[tuple[str, str]], **others: object) -> set[str]:
    return {each.code for each in examine(context(pairs, **others))}


def write_pairs(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    lines = (json.dumps({"user": asked, "assistant": said}) for asked, said in pairs)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
