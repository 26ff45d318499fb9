"""Rows with a system prompt that the answer has to obey."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.facts import answer, pick, question
from recipes.tiny_base.passages import make_passage
from recipes.tiny_base.personal import unknown_row
from recipes.tiny_base.rows import Message, Row, assistant, row, system, user
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import Fact, Relation, all_facts, load_toml, sentence
from recipes.tiny_base.wording import dress

Rule = Callable[[str], str]


@cache
def tables() -> dict[str, Any]:
    """Load the system prompts."""
    return load_toml("pools/systems.toml")


@cache
def _one_word() -> tuple[tuple[Relation, Fact], ...]:
    return tuple(
        (rel, fact) for rel, fact in all_facts() if not rel.inverse and fact.value.isalnum()
    )


def _prompt(rng: Random, rule: str, *details: str) -> str:
    text = str(rng.choice(tables()[rule]["train"])).format(*details)
    if rng.random() < 0.25:
        text = f"{rng.choice(tables()['neutral'])} {text}"
    return text


def _ask(rng: Random) -> tuple[str, str]:
    rel, fact = pick(rng)
    return question(rng, rel, fact), answer(rng, rel, fact)


def _styled(rng: Random, kind: str, prompt: str, rule: Rule) -> Row:
    """Ask one or two facts under a rule; some rules come with the question instead."""
    asked, said = _ask(rng)
    if rng.random() < 0.12:
        return row(kind, user(f"{prompt}\n{asked}"), assistant(rule(said)))
    messages: list[Message] = [system(prompt), user(asked), assistant(rule(said))]
    if rng.random() < 0.2:
        asked, said = _ask(rng)
        messages += [user(asked), assistant(rule(said))]
    return row(kind, *messages)


def word_row(rng: Random) -> Row:
    """Answer in one word."""
    rel, fact = rng.choice(_one_word())
    asked = question(rng, rel, fact)
    prompt = _prompt(rng, "word")
    if rng.random() < 0.2:
        return row("obey-word", user(f"{prompt} {asked}"), assistant(sentence(fact.value)))
    return row("obey-word", system(prompt), user(asked), assistant(sentence(fact.value)))


def json_row(rng: Random) -> Row:
    """Answer as a JSON object of one key."""
    rel, fact = rng.choice(_one_word())
    key = rng.choice(tables()["json"]["keys"])
    said = json.dumps({key: fact.value}, ensure_ascii=False)
    asked = question(rng, rel, fact)
    return row("obey-json", system(_prompt(rng, "json", key)), user(asked), assistant(said))


def case_row(rng: Random) -> Row:
    """Answer in capital letters, in small letters, or in plain sentences."""
    rule = rng.choice(("upper", "upper", "lower", "sentence"))
    change: Rule = {"upper": str.upper, "lower": str.lower}.get(rule, str)
    return _styled(rng, f"obey-{rule}", _prompt(rng, rule), change)


def end_row(rng: Random) -> Row:
    """End every answer with a phrase."""
    phrase = Slots(rng).fill(rng.choice(tables()["phrase_end"]))
    return _styled(rng, "obey-end", _prompt(rng, "end", phrase), lambda said: f"{said} {phrase}")


def start_row(rng: Random) -> Row:
    """Start every answer with a phrase."""
    phrase = Slots(rng).fill(rng.choice(tables()["phrase_start"]))
    prompt = _prompt(rng, "start", phrase)
    return _styled(rng, "obey-start", prompt, lambda said: f"{phrase} {said}")


def call_row(rng: Random) -> Row:
    """Use the user's name."""
    name = Slots(rng)["name"]
    prompt = _prompt(rng, "call", name)
    return _styled(rng, "obey-call", prompt, lambda said: f"{said[:-1]}, {name}.")


def neutral_row(rng: Random) -> Row:
    """A system prompt that changes nothing."""
    return _styled(rng, "obey-neutral", rng.choice(tables()["neutral"]), str)


def persona_row(rng: Random) -> Row:
    """Take the name that the system prompt gives."""
    slots = Slots(rng)
    name = slots.fill(rng.choice(tables()["names"]))
    texts = tables()["persona"]
    asked = dress(rng, rng.choice(texts["ask"]))
    said = texts["answer"][0].format(name)
    return row("obey-persona", system(_prompt(rng, "persona", name)), user(asked), assistant(said))


def unknown_rule_row(rng: Random) -> Row:
    """Say a given phrase when the answer is not known, and answer as usual when it is."""
    phrase = Slots(rng).fill(rng.choice(tables()["unknown"]["phrases"]))
    prompt = _prompt(rng, "unknown", phrase)
    if rng.random() < 0.6:
        asked, said = unknown_row(rng)["messages"][0]["content"], phrase
    else:
        asked, said = _ask(rng)
    return row("obey-unknown", system(prompt), user(asked), assistant(said))


def helper_row(rng: Random) -> Row:
    """A helper of somebody, who knows some things about them."""
    passage = make_passage(rng, max_beings=1)
    item = rng.choice(passage.told)
    name = item.slots["N0"]
    prompt = rng.choice(tables()["helper"]["train"]).format(name, passage.text)
    asked = dress(rng, item.question(rng))
    said = item.answer(rng)
    return row("obey-helper", system(prompt), user(asked), assistant(said))


_MAKERS = (
    word_row,
    json_row,
    case_row,
    end_row,
    start_row,
    call_row,
    neutral_row,
    persona_row,
    unknown_rule_row,
    helper_row,
)
_WEIGHTS = (12, 10, 18, 12, 11, 5, 8, 5, 9, 10)


def obey_row(rng: Random) -> Row:
    """One of the rows with a system prompt."""
    return rng.choices(_MAKERS, _WEIGHTS)[0](rng)
