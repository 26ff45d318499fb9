"""Dress questions up in everyday forms, and guard the wordings held out of training."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from recipes.tiny_base.tables import Fact, Relation, answer_fields, fill, load_toml, relations

_NOT_WORD = re.compile(r"[^a-z0-9' ]+")


def normal(text: str) -> str:
    """Lower-case a text and drop its punctuation, so that wordings can be compared."""
    return " ".join(_NOT_WORD.sub(" ", text.lower()).split())


@cache
def _leads() -> dict[str, list[str]]:
    return load_toml("pools/leads.toml")


def lower_first(text: str) -> str:
    """Lower-case the first letter, unless the first word is a name or "I"."""
    first = text.split(" ", 1)[0]
    common = first.lower() in _leads()["question_words"]
    return text[:1].lower() + text[1:] if common else text


def casual(rng: Random, question: str) -> str:
    """Write a question the way people type it in a hurry."""
    return (question.lower() if rng.random() < 0.7 else question).rstrip("?.")


def dress(rng: Random, question: str) -> str:
    """Give a question one of its everyday forms; half the time it stays as it is."""
    chance = rng.random()
    if chance < 0.52:
        return question
    if chance < 0.70:
        return casual(rng, question)
    leads = _leads()
    if question.split(" ", 1)[0] in leads["already_a_request"]:
        dressed = f"{rng.choice(leads['greeting'])} {question}" if chance < 0.8 else question
    elif chance < 0.85:
        lead = rng.choice(leads["before"])
        dressed = f"{lead} {lower_first(question)}"
    elif chance < 0.93:
        dressed = f"{rng.choice(leads['greeting'])} {question}"
    else:
        dressed = f"{question} {rng.choice(leads['after'])}"
    return casual(rng, dressed) if rng.random() < 0.15 else dressed


def indirect(rng: Random, clause: str) -> str:
    """Turn a clause such as "what cows eat" into a request."""
    return dress(rng, rng.choice(_leads()["indirect"]).format(clause))


def held_questions(rel: Relation, fact: Fact) -> list[str]:
    """List the held-out questions about one fact."""
    words = answer_fields(rel, fact)
    return [fill(template, words) for template in rel.held]


@cache
def _held_index() -> tuple[frozenset[str], dict[tuple[str, ...], tuple[int, ...]]]:
    texts = {
        normal(question)
        for rel in relations()
        for fact in rel.facts
        for question in held_questions(rel, fact)
    }
    texts.update(normal(text) for text in load_toml("pools/skills.toml")["held"]["exact"])
    starts: dict[tuple[str, ...], set[int]] = {}
    for text in texts:
        words = text.split()
        starts.setdefault(tuple(words[:3]), set()).add(len(words))
    return frozenset(texts), {start: tuple(sorted(sizes)) for start, sizes in starts.items()}


def has_held_wording(text: str) -> bool:
    """Say whether a text contains any held-out question, whatever its case and punctuation."""
    texts, starts = _held_index()
    words = normal(text).split()
    for i in range(len(words) - 2):
        sizes = starts.get((words[i], words[i + 1], words[i + 2]))
        if sizes and any(" ".join(words[i : i + size]) in texts for size in sizes):
            return True
    return False
