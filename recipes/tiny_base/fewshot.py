"""Rows in which the prompt shows the pattern: examples, labels and formats to follow."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.rows import Message, Row, assistant, pair, row, system, user
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import article, load_toml, relation

_CODES = (("A", "B"), ("1", "2"), ("X", "Y"), ("yes", "no"), ("left", "right"), ("K", "M"))
_FORMATS: tuple[Callable[[Slots], tuple[str, str]], ...] = (
    lambda s: (f"{s['name']}, {s['age']}", f"Name: {s['name']}; Age: {s['age']}"),
    lambda s: (f"{s['name']} {s['town']}", f"{s['name']} lives in {s['town']}."),
    lambda s: (f"{s['thing']} {s['price']}", f"The {s['thing']} costs {s['price']} coins."),
    lambda s: (f"{s['food']}/{s['drink']}", f"{s['food']} with {s['drink']}"),
    lambda s: (f"{s['adj']} {s['thing']}", f"{s['thing']} ({s['adj']})"),
    lambda s: (f"{s['name']} {s['day']}", f"[{s['day']}] {s['name']}"),
    lambda s: (f"{s['made']}", f"{s['made'].upper()}"),
    lambda s: (f"{s['made']} {s['made2']}", f"{s['made2']} {s['made']}"),
    lambda s: (f"{s['animal']} {s['plain_colour']}", f"a {s['plain_colour']} {s['animal']}"),
    lambda s: (f"{s['name']}: {s['food']}", f"{s['name']} likes {s['food']}."),
)


@cache
def tables() -> dict[str, Any]:
    """Load patterns and labels."""
    return load_toml("pools/fewshot.toml")


def _show(rng: Random, kind: str, pairs: list[tuple[str, str]]) -> Row:
    """Show all pairs but the last with their answers, and ask for the last."""
    *shown, (asked, said) = pairs
    if rng.random() < 0.35:
        messages: list[Message] = []
        for left, right in shown:
            messages += [user(left), assistant(right)]
        return row(kind, *messages, user(asked), assistant(said))
    texts = tables()
    if rng.random() < 0.3:
        head, foot = rng.choice(texts["heads"])
        lines = [f"{head}: {left}\n{foot}: {right}" for left, right in shown]
        lines.append(f"{head}: {asked}\n{foot}:")
    else:
        join = rng.choice(texts["joins"])
        lines = [f"{left}{join}{right}" for left, right in shown]
        lines.append(f"{asked}{join}".rstrip())
    return pair(kind, rng.choice(texts["intro"]) + "\n".join(lines), said)


def pattern_row(rng: Random) -> Row:
    """Word pairs from the fact tables: hot -> cold, big -> small."""
    rel = relation(rng.choice(tables()["relations"]))
    facts = rng.sample(rel.facts, rng.choice((3, 3, 4, 5)))
    return _show(rng, "pattern", [(fact.subject, fact.value) for fact in facts])


def format_row(rng: Random) -> Row:
    """Random details put into the format that the examples show."""
    make = rng.choice(_FORMATS)
    return _show(rng, "format", [make(Slots(rng)) for _ in range(rng.choice((3, 3, 4)))])


def _labelled(rng: Random, labels: list[str], renamed: tuple[str, ...]) -> tuple[str, str]:
    i = rng.randrange(len(labels))
    return rng.choice(tables()["labels"][labels[i]]), renamed[i]


def word_label_row(rng: Random) -> Row:
    """Label words, with labels that examples or rules define."""
    labels = rng.sample(list(tables()["labels"]), 2)
    if rng.random() < 0.5:
        renamed = rng.choice((tuple(labels), *_CODES))
        pairs = [_labelled(rng, labels, renamed) for _ in range(rng.choice((4, 5, 6)))]
        words = [word for word, _ in pairs]
        # Both labels must be shown, and the asked word must be new.
        shown = {label for _, label in pairs[:-1]}
        if len(shown) == 2 and words[-1] not in words[:-1]:
            return _show(rng, "label", pairs)
    codes = rng.choice(_CODES)
    text, said = _labelled(rng, labels, codes)
    names = [article(label) for label in labels]
    form = rng.choice(tables()["ask"]["define"])
    asked = form.format(*names, x=codes[0], y=codes[1], text=text)
    if rng.random() < 0.3 and text in asked:
        rules = form.format(*names, x=codes[0], y=codes[1], text="").strip()
        rules = rules.removesuffix("What is ?").removesuffix("Word:").rstrip(" :")
        return row("label", system(rules), user(text), assistant(said))
    return pair("label", asked, said)


def text_label_row(rng: Random) -> Row:
    """Label a sentence by mood, or as a question or a statement."""
    texts = tables()
    if rng.random() < 0.7:
        i = rng.randrange(2)
        sources, labels = texts["mood"], rng.choice(texts["mood"]["labels"][:3])
        text = Slots(rng).fill(rng.choice(sources[("happy", "sad")[i]]))
        if rng.random() < 0.3:
            return _mood_examples(rng)
    else:
        i = rng.randrange(2)
        labels = ["question", "statement"]
        text = Slots(rng).fill(rng.choice(texts["topic"][labels[i]]))
    names = list(labels)
    if rng.random() < 0.5:
        names.reverse()
    return pair("label", rng.choice(texts["ask"]["label"]).format(*names, text=text), labels[i])


def _mood_examples(rng: Random) -> Row:
    mood = tables()["mood"]
    labels = rng.choice(mood["labels"])
    order = [0, 1, *(rng.randrange(2) for _ in range(rng.choice((1, 2))))]
    shuffled = rng.sample(order[:2], 2) + order[2:]
    pairs = [(Slots(rng).fill(rng.choice(mood[("happy", "sad")[i]])), labels[i]) for i in shuffled]
    return _show(rng, "label", pairs)


def fewshot_row(rng: Random) -> Row:
    """One of the pattern rows."""
    makers = (pattern_row, format_row, word_label_row, text_label_row)
    return rng.choices(makers, (38, 24, 20, 18))[0](rng)
