"""Rows that are answered from a short text in the prompt.

Names and details are drawn at random, many names are made up, so the answer can only be
copied from the text. Some questions have no answer in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.rows import Message, Row, assistant, row, system, user
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import load_toml, sentence
from recipes.tiny_base.wording import dress, lower_first

_KEY = re.compile(r"{(\w+)}")
_KINDS = ("person", "pet", "shop", "event", "object")
_KIND_WEIGHTS = (40, 30, 9, 9, 12)
_PRONOUNS = (("he", "his"), ("she", "her"))
_UNKNOWN_SHARE = 0.13
_VERIFY = ("{}\n\nIs this right? {}", "{}\n\nTrue or not: {}", "Text: {}\nIs it true? {}")


@dataclass(frozen=True)
class Told:
    """One thing that a text says or could say about a being or an object."""

    about: dict[str, Any]
    slots: Slots

    def question(self, rng: Random, held: bool = False) -> str:
        """Ask for the detail."""
        return self.slots.fill(rng.choice(self.about["held" if held else "ask"]))

    def answer(self, rng: Random) -> str:
        """Answer with the detail in a short sentence."""
        return self.slots.fill(rng.choice(self.about["answer"]))

    def value(self) -> str:
        """The detail alone."""
        return str(self.about["value"]).format_map(self.slots)


@dataclass(frozen=True)
class Passage:
    """A random text: its sentences in parts, what it tells and what it leaves out."""

    parts: tuple[str, ...]
    told: tuple[Told, ...]
    untold: tuple[Told, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return " ".join(self.parts)


@cache
def tables() -> dict[str, Any]:
    """Load what a text can say, with the ways to wrap it."""
    return load_toml("pools/passages.toml")


def _name(rng: Random, kind: str) -> Slots:
    slots = Slots(rng)
    subject, own = rng.choice(_PRONOUNS)
    if kind == "person":
        known = "woman" if own == "her" else "man"
        name = slots["made" if rng.random() < 0.3 else known]
    elif kind == "pet":
        name = slots["pet_call"]
    else:
        subject, own = "it", "its"
        name = slots[f"{kind}_name"]
    slots.update(N0=name, he=subject, his=own)
    return slots


def _say(told: Told, rng: Random, by_name: bool) -> str:
    slots = told.slots
    by_name = by_name or rng.random() < 0.5
    slots["N"] = slots["N0"] if by_name else slots["he"]
    slots["Ns"] = f"{slots['N0']}'s" if by_name else slots["his"]
    return slots.fill(rng.choice(told.about["tell"]))


def _unbound(about: dict[str, Any], slots: Slots) -> bool:
    """Say whether the text told nothing that could answer this by accident."""
    return not any(key in slots for key in _KEY.findall(about["value"]))


def _single(rng: Random, kind: str, size: int, shared: dict[str, Any] | None) -> Passage:
    slots = _name(rng, kind)
    abouts = tables()[kind]
    chosen = rng.sample(abouts, min(size, len(abouts)))
    if shared is not None and all(shared is not about for about in chosen):
        chosen[rng.randrange(len(chosen))] = shared
    told = tuple(Told(about, slots) for about in chosen)
    # After another name, "she" could mean either.
    named = [i == 0 or "{relative" in chosen[i - 1]["value"] for i in range(len(told))]
    text = " ".join(_say(item, rng, by) for item, by in zip(told, named, strict=True))
    rest = [about for about in abouts if all(about is not other for other in chosen)]
    left = tuple(Told(about, slots) for about in rest if _unbound(about, slots))
    return Passage((text,), told, left)


def make_passage(rng: Random, max_beings: int = 3) -> Passage:
    """Draw a random text about one to three beings or things."""
    beings = min(max_beings, rng.choice((1, 1, 1, 2, 2, 3)))
    kind = rng.choices(_KINDS, _KIND_WEIGHTS)[0]
    shared = rng.choice(tables()[kind]) if beings > 1 and rng.random() < 0.7 else None
    made = []
    for _ in range(beings):
        size = rng.choice((2, 3, 3, 4, 5)) if beings == 1 else rng.choice((1, 2, 2))
        made.append(_single(rng, kind, size, shared))
    parts = [part for one in made for part in one.parts]
    if rng.random() < 0.12:
        parts.insert(rng.randrange(len(parts) + 1), Slots(rng).fill(Slots(rng)["filler"]))
    told = tuple(item for one in made for item in one.told)
    return Passage(tuple(parts), told, tuple(item for one in made for item in one.untold))


def _ask(rng: Random, passage: Passage) -> tuple[str, str]:
    if rng.random() < _UNKNOWN_SHARE and passage.untold:
        item = rng.choice(passage.untold)
        return item.question(rng), str(tables()["wrapping"]["unknown"])
    item = rng.choice(passage.told)
    return item.question(rng), item.answer(rng)


def _written(rng: Random, passage: Passage) -> str:
    """Write the text, at times as numbered notes like those a search returns."""
    if len(passage.parts) > 1 and rng.random() < 0.3:
        form = rng.choice(tables()["wrapping"]["parts"])
        return "\n".join(form.format(n=n, part=part) for n, part in enumerate(passage.parts, 1))
    return passage.text


def passage_row(rng: Random) -> Row:
    """A text in the system or user message, and one to three questions about it."""
    passage = make_passage(rng)
    wrapping = tables()["wrapping"]
    text = _written(rng, passage)
    asked, answered = _ask(rng, passage)
    messages: list[Message]
    if rng.random() < 0.42:
        prompt = rng.choice(wrapping["system"]).format(text=text)
        messages = [system(prompt), user(dress(rng, asked))]
    else:
        form = rng.choice(wrapping["user"])
        messages = [user(form.format(text=text, question=asked, low=lower_first(asked)))]
    messages.append(assistant(answered))
    if rng.random() < 0.3:
        for _ in range(rng.choice((1, 1, 2))):
            more, answered = _ask(rng, passage)
            if all(more not in message["content"] for message in messages):
                messages += [user(more), assistant(answered)]
    return row("passage", *messages)


def verify_row(rng: Random) -> Row:
    """A statement about a text, to be called right or wrong."""
    passage = make_passage(rng, max_beings=2)
    item = rng.choice(passage.told)
    truth = item.answer(rng)
    if rng.random() < 0.5:
        claim, verdict = truth, f"Yes. {truth}"
    else:
        other = Slots(rng, **{key: item.slots[key] for key in ("N0", "pet") if key in item.slots})
        claim = other.fill(rng.choice(item.about["answer"]))
        verdict = f"Yes. {truth}" if claim == truth else f"No. {truth}"
    asked = rng.choice(_VERIFY).format(passage.text, sentence(claim))
    return row("verify", user(asked), assistant(verdict))
