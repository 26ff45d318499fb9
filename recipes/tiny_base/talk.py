"""Rows of small talk, alone or around a question."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.facts import answer, pick, question
from recipes.tiny_base.rows import Message, Row, assistant, row, user
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import load_toml

_OPENINGS = 4
_CLOSINGS = slice(4, 6)


@cache
def _intents() -> list[dict[str, Any]]:
    return list(load_toml("pools/talk.toml")["intent"])


def _turn(rng: Random, intent: dict[str, Any]) -> list[Message]:
    said = rng.choice(intent["user"])
    chance = rng.random()
    if chance < 0.1:
        said = said.lower().rstrip(".?!") or said
    elif chance < 0.18:
        said = f"{Slots(rng).fill('I am {name}.')} {said}"
    reply = intent["reply"][0] if rng.random() < 0.7 else rng.choice(intent["reply"])
    return [user(said), assistant(reply)]


def talk_row(rng: Random) -> Row:
    """One exchange, or a short talk with a greeting, a question and a goodbye."""
    intents = _intents()
    if rng.random() < 0.4:
        return row("talk", *_turn(rng, rng.choice(intents)))
    messages: list[Message] = []
    if rng.random() < 0.7:
        messages += _turn(rng, intents[rng.randrange(_OPENINGS - 1)])
    rel, fact = pick(rng)
    messages += [user(question(rng, rel, fact)), assistant(answer(rng, rel, fact))]
    if rng.random() < 0.7 or len(messages) == 2:
        messages += _turn(rng, rng.choice([*intents[_CLOSINGS], rng.choice(intents)]))
    return row("talk", *messages)
