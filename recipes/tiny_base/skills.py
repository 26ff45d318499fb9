"""Rows about small skills: sums, numbers, letters, and small JSON objects."""

from __future__ import annotations

import json
from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.rows import Row, pair
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import article, load_toml
from recipes.tiny_base.wording import dress

_THINGS = ("apples", "books", "eggs", "coins", "balls", "cups", "pens", "cakes", "shells", "hats")
_LETTERS = (
    ("spell", "first", "last", "after", "before", "upper", "repeat", "length"),
    (2, 2, 1, 1, 1, 2, 3, 1),
)
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_JSON_POOLS = {
    "name": "name",
    "age": "age",
    "town": "town",
    "colour": "plain_colour",
    "food": "food",
    "day": "day",
    "job": "job",
    "pet": "pet",
}


@cache
def tables() -> dict[str, Any]:
    """Load the wordings of the skills."""
    return load_toml("pools/skills.toml")


def is_held_sum(a: int, b: int) -> bool:
    """Say whether the sum of two numbers is kept for the held-out questions."""
    low, high = sorted((a, b))
    return (7 * low + 3 * high) % 11 == 0


def _number(rng: Random) -> int:
    """Small numbers more often than big ones."""
    return rng.randint(1, 12) if rng.random() < 0.7 else rng.randint(1, 30)


def sum_row(rng: Random) -> Row:
    """Add, subtract or multiply small numbers."""
    kind = rng.choices(("add", "subtract", "times"), (50, 35, 15))[0]
    a, b = _number(rng), _number(rng)
    while is_held_sum(a, b):
        a, b = _number(rng), _number(rng)
    if kind == "add":
        said = f"{a} + {b} = {a + b}."
    elif kind == "subtract":
        a, b = max(a, b), min(a, b)
        said = f"{a} - {b} = {a - b}."
    else:
        a, b = (a - 1) % 10 + 1, (b - 1) % 10 + 1
        said = f"{a} x {b} = {a * b}."
    forms = tables()["sums"][kind]
    if min(a, b) < 2:
        # "1 apples" would be wrong.
        forms = [form for form in forms if "{things}" not in form]
    slots = Slots(rng, a=str(a), b=str(b), things=rng.choice(_THINGS))
    return pair("sum", dress(rng, slots.fill(rng.choice(forms))), said)


def _compare(rng: Random, kind: str) -> tuple[str, str]:
    a, b = rng.sample(range(1, 101 if rng.random() < 0.5 else 21), 2)
    chosen = max(a, b) if kind == "bigger" else min(a, b)
    other = a + b - chosen
    return _form(rng, kind, a=a, b=b), f"{chosen} is {kind} than {other}."


def _form(rng: Random, kind: str, **words: int | str) -> str:
    return str(rng.choice(tables()["numbers"][kind]).format(**words))


def _sequence(rng: Random) -> tuple[str, str]:
    step = rng.choice((1, 1, 2, 2, 5, 10, 3))
    start = step * rng.randint(1, 8) if rng.random() < 0.7 else rng.randint(1, 20)
    shown = [str(start + step * i) for i in range(rng.choice((3, 4)))]
    after = start + step * len(shown)
    return _form(rng, "sequence", seq=", ".join(shown)), f"The next number is {after}."


def number_row(rng: Random) -> Row:
    """Compare, count, go on, and the like."""
    kind = rng.choice(
        ("bigger", "smaller", "next", "previous", "count", "sequence", "even", "double")
    )
    a = rng.randint(2, 99)
    if kind in {"bigger", "smaller"}:
        asked, said = _compare(rng, kind)
    elif kind == "sequence":
        asked, said = _sequence(rng)
    elif kind == "count":
        first = rng.choice((1, 1, rng.randint(1, 20)))
        last = first + rng.randint(2, 9)
        asked = _form(rng, kind, a=first, b=last)
        said = ", ".join(str(n) for n in range(first, last + 1))
    elif kind == "even":
        asked, said = _form(rng, kind, a=a), f"{a} is {'odd' if a % 2 else 'even'}."
    elif kind == "double":
        a = rng.randint(1, 20)
        asked, said = _form(rng, kind, a=a), f"The double of {a} is {2 * a}."
    else:
        after = kind == "next"
        asked = _form(rng, kind, a=a)
        said = f"{a + 1} comes after {a}." if after else f"{a - 1} comes before {a}."
    return pair("number", dress(rng, asked), said)


def _word(rng: Random) -> str:
    slots = Slots(rng)
    return slots["name"] if rng.random() < 0.15 else str(rng.choice(tables()["letters"]["words"]))


def _phrase(rng: Random) -> str:
    """A few random words, to be copied as they are."""
    slots = Slots(rng)
    form = rng.choice(
        (
            "{adj} {thing}",
            "the {plain_colour} {animal}",
            "{name} likes {food}.",
            "{made} {made2} {made3}",
            "{code}",
            "{food}, {drink}, {thing}",
            "{name} has {a_pet}.",
        )
    )
    return form.format_map(slots)


def _neighbour(rng: Random, kind: str) -> tuple[str, str]:
    i = rng.randrange(25)
    first, second = _ALPHABET[i], _ALPHABET[i + 1]
    if kind == "after":
        return first, f"{second} comes after {first}."
    return second, f"{first} comes before {second}."


def letter_row(rng: Random) -> Row:
    """Spell, copy, find letters, change case."""
    kind = rng.choices(*_LETTERS)[0]
    word = _word(rng)
    letters = word.upper()
    if kind == "repeat":
        word = said = _phrase(rng)
    elif kind == "upper":
        word = _phrase(rng) if rng.random() < 0.5 else word
        said = word.upper()
    elif kind in {"after", "before"}:
        word, said = _neighbour(rng, kind)
    elif kind == "spell":
        said = f"The word {word} is spelled {'-'.join(letters)}."
    elif kind == "length":
        said = f"The word {word} has {len(word)} letters."
    else:
        letter = letters[0] if kind == "first" else letters[-1]
        said = f"The {kind} letter of {word} is {letter}."
    asked = rng.choice(tables()["letters"][kind]).format(w=word)
    # A request to copy must show exactly what to copy, so it is not dressed up.
    return pair("letter", asked if kind in {"repeat", "upper"} else dress(rng, asked), said)


def sort_row(rng: Random) -> Row:
    """Sort three or four numbers."""
    numbers = rng.sample(range(1, 30), rng.choice((3, 3, 4)))
    asked = rng.choice(tables()["letters"]["sort_numbers"]).format(
        w=", ".join(str(n) for n in numbers)
    )
    return pair("number", asked, ", ".join(str(n) for n in sorted(numbers)))


def draw_object(rng: Random) -> dict[str, str | int]:
    """Draw a small JSON object with random keys and values."""
    slots = Slots(rng)
    keys = rng.sample(tables()["objects"]["keys"], rng.choice((1, 2, 2, 3)))
    return {key: int(slots["age"]) if key == "age" else slots[_JSON_POOLS[key]] for key in keys}


def json_row(rng: Random) -> Row:
    """Write a small JSON object, or read one."""
    data = draw_object(rng)
    texts = tables()["objects"]
    written = json.dumps(data, ensure_ascii=False)
    if rng.random() < 0.3:
        key = rng.choice(list(data))
        asked = rng.choice(texts["read"]).format(json=written, key=key)
        return pair("json", asked, f"The {key} is {data[key]}.")
    pairs = " and ".join(f"{key} {value}" for key, value in data.items())
    lines = ", ".join(f"{key}: {value}" for key, value in data.items())
    return pair("json", rng.choice(texts["ask"]).format(pairs=pairs, lines=lines), written)


def list_answer(rng: Random, kind: str, size: int, form: str) -> str:
    """List some things of a kind, in a sentence, as a list, or as JSON."""
    chosen = rng.sample(tables()["lists"]["kinds"][kind], size)
    if form == "json":
        return json.dumps(chosen)
    if form == "bullets":
        return "\n".join(f"- {item}" for item in chosen)
    if form == "numbered":
        return "\n".join(f"{n}. {item}" for n, item in enumerate(chosen, 1))
    if size == 1:
        return f"{article(chosen[0])}.".capitalize() if chosen[0].islower() else f"{chosen[0]}."
    text = f"{', '.join(chosen[:-1])} and {chosen[-1]}."
    return text[0].upper() + text[1:]


def list_row(rng: Random) -> Row:
    """Name some things of a kind."""
    texts = tables()["lists"]
    kind = rng.choice(list(texts["kinds"]))
    size = rng.randint(2, min(5, len(texts["kinds"][kind])))
    number = texts["numbers"][size - 1] if rng.random() < 0.8 else str(size)
    asked = rng.choice(texts["ask"]).format(n=number, kind=kind)
    form = rng.choices(("plain", "bullets", "numbered", "json"), (55, 20, 13, 12))[0]
    said = list_answer(rng, kind, size, form)
    if form == "plain":
        return pair("list", dress(rng, asked), said)
    return pair("list", f"{asked} {rng.choice(texts[form])}", said)


def skill_row(rng: Random) -> Row:
    """One of the skill rows."""
    makers = (sum_row, number_row, letter_row, sort_row, json_row, list_row)
    return rng.choices(makers, (44, 14, 14, 3, 10, 15))[0](rng)
