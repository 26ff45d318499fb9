"""Rows in which users tell something about themselves and ask for it later."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.facts import answer, pick, question
from recipes.tiny_base.rows import Message, Row, assistant, pair, row, user
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import load_toml
from recipes.tiny_base.wording import dress, lower_first


@cache
def _tables() -> dict[str, Any]:
    return load_toml("pools/personal.toml")


def _later(rng: Random, asked: str) -> str:
    return str(rng.choice(_tables()["ask_later"]).format(asked, low=lower_first(asked)))


def told_row(rng: Random) -> Row:
    """Facts told in one or two turns, then a question; at times another topic in between."""
    tables = _tables()
    items = rng.sample(tables["item"], rng.choice((1, 1, 2)))
    slots = [Slots(rng) for _ in items]
    messages: list[Message] = []
    for item, known in zip(items, slots, strict=True):
        told = known.fill(rng.choice(item["tell"]))
        reply = item["reply"] if rng.random() < 0.4 else rng.choice(tables["ack"])
        messages += [user(told), assistant(known.fill(reply))]
    if rng.random() < 0.2:
        rel, fact = pick(rng)
        messages += [user(question(rng, rel, fact)), assistant(answer(rng, rel, fact))]
    chosen = rng.randrange(len(items))
    questions, said = rng.choice(items[chosen]["qa"])
    asked = _later(rng, slots[chosen].fill(rng.choice(questions)))
    messages += [user(asked), assistant(slots[chosen].fill(said))]
    return row("personal", *messages)


def at_once_row(rng: Random) -> Row:
    """Facts and a question about them in the same message."""
    items = rng.sample(_tables()["item"], rng.choice((1, 2, 2, 3)))
    slots = [Slots(rng) for _ in items]
    told = [known.fill(rng.choice(item["tell"])) for item, known in zip(items, slots, strict=True)]
    chosen = rng.randrange(len(items))
    questions, said = rng.choice(items[chosen]["qa"])
    asked = slots[chosen].fill(rng.choice(questions))
    return pair("personal", " ".join([*told, asked]), slots[chosen].fill(said))


def unknown_row(rng: Random) -> Row:
    """A question that only the user could answer."""
    questions, said = rng.choice(_tables()["unknown"]["qa"])
    slots = Slots(rng)
    asked = slots.fill(rng.choice(questions))
    return pair("unknown", dress(rng, asked), slots.fill(said))


def personal_row(rng: Random) -> Row:
    """One of the personal rows."""
    maker = rng.choices((told_row, at_once_row, unknown_row), (54, 28, 18))[0]
    return maker(rng)
