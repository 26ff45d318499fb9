"""A real data set made dirty on purpose, and questions from the part of it that was kept apart.

Customers' questions, each with one of 24 replies (Bitext, CDLA-Sharing-1.0), school mathematics
(GSM8K, MIT) as what does not belong. Three of the 27 replies are left out: they hold an address
or a telephone number, and what `select` does about personal data is not in question here.
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path

_SUPPORT = "Bitext_Sample_Customer_support_Training_Dataset_GPT3.5__1.85MB.csv"
_CONTACTS = ("@", "(123)")
_LONGEST = 400  # characters of what does not belong, so that it is about as long as the rest
_ASKED_PER_REPLY = 10
# Shares of the rows; the rest is as it was.
LEVELS = {
    "light": {"duplicate": 0.2, "conflict": 0.14, "truncated": 0.16, "off_topic": 0.14},
    "heavy": {"duplicate": 0.4, "conflict": 0.15, "truncated": 0.15, "off_topic": 0.15},
}
_REPEATED = 0.1  # share of the sound rows that all duplicates are copies of
_DISPUTED = 1 / 3  # share of them that all wrong replies are given to
_CUT = (0.2, 0.7)  # where an answer is cut, as a share of its words


@dataclass(frozen=True)
class Row:
    """One row, and what was done to it; `intent` is what the customer wants."""

    user: str
    assistant: str
    intent: str
    kind: str = "clean"


def load(folder: Path) -> tuple[list[Row], list[Row]]:
    """Return the customers' rows, each question once, and the rows that do not belong."""
    rows: dict[str, Row] = {}
    with (folder / "bitext_customer_support" / _SUPPORT).open(
        encoding="utf-8-sig", newline=""
    ) as file:
        for line in csv.DictReader(file):
            if not any(mark in line["response"] for mark in _CONTACTS):
                key = " ".join(line["instruction"].lower().split())
                rows.setdefault(key, Row(line["instruction"], line["response"], line["intent"]))
    lines = (folder / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    others = (json.loads(line) for line in lines)
    return list(rows.values()), [
        Row(each["question"], each["answer"], "mathematics", "off_topic")
        for each in others
        if len(each["question"]) + len(each["answer"]) <= _LONGEST
    ]


def keep_apart(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return (rows to ask, the others): always the same, ten for each reply."""
    chance = random.Random(0)
    asked: list[Row] = []
    for intent in sorted({row.intent for row in rows}):
        asked += chance.sample([row for row in rows if row.intent == intent], _ASKED_PER_REPLY)
    taken = set(asked)
    return asked, [row for row in rows if row not in taken]


def make_dirty(rows: list[Row], others: list[Row], level: str, count: int, seed: int) -> list[Row]:
    """Return `count` rows in a random order."""
    chance = random.Random(seed)
    numbers = {kind: round(share * count) for kind, share in LEVELS[level].items()}
    n_clean = count - sum(numbers.values())
    drawn = chance.sample(rows, n_clean + numbers["truncated"])
    clean, cut = drawn[:n_clean], drawn[n_clean:]
    repeated = chance.sample(clean, round(_REPEATED * n_clean))
    disputed = chance.sample(clean, round(_DISPUTED * n_clean))
    found = [
        *clean,
        *(_copy(chance.choice(repeated), chance) for _ in range(numbers["duplicate"])),
        *(_contradict(chance.choice(disputed), rows, chance) for _ in range(numbers["conflict"])),
        *(_truncate(row, chance) for row in cut),
        *chance.sample(others, numbers["off_topic"]),
    ]
    chance.shuffle(found)
    return found


def _copy(row: Row, chance: random.Random) -> Row:
    change = chance.choice((str, str.upper, str.capitalize, lambda text: f"{text.rstrip('?.! ')}!"))
    return Row(change(row.user), row.assistant, row.intent, "duplicate")


def _contradict(row: Row, rows: list[Row], chance: random.Random) -> Row:
    """Return the question with a reply to another one."""
    wrong = chance.choice([other for other in rows if other.intent != row.intent])
    return Row(row.user, wrong.assistant, row.intent, "conflict")


def _truncate(row: Row, chance: random.Random) -> Row:
    words = row.assistant.split()
    kept = max(1, round(chance.uniform(*_CUT) * len(words)))
    return Row(row.user, " ".join(words[:kept]), row.intent, "truncated")
