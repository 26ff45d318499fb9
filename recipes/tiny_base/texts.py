"""Rows with longer answers: explanations, steps and very short stories."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from recipes.tiny_base.facts import portrait_row
from recipes.tiny_base.rows import Row, pair
from recipes.tiny_base.slots import Slots
from recipes.tiny_base.tables import article, load_toml
from recipes.tiny_base.wording import dress

_SOMEBODY = (("woman", "she", "her"), ("man", "he", "him"))


@cache
def _tables() -> dict[str, Any]:
    return load_toml("pools/texts.toml")


def explain_row(rng: Random) -> Row:
    """Three sentences about a thing."""
    texts = _tables()["explain"]
    topic = rng.choice(list(texts["topics"]))
    asked = rng.choice(texts["ask"][1:]).format(t=topic)
    return pair("explain", dress(rng, asked), texts["topics"][topic])


def howto_row(rng: Random) -> Row:
    """Three steps, numbered."""
    texts = _tables()["howto"]
    topic = rng.choice(list(texts["topics"]))
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(texts["topics"][topic], 1))
    return pair("howto", dress(rng, rng.choice(texts["ask"]).format(t=topic)), steps)


def story_row(rng: Random) -> Row:
    """A story of a few sentences with random beings and things."""
    texts = _tables()["story"]
    pool, subject, other = rng.choice(_SOMEBODY)
    slots = Slots(rng, he=subject, him=other)
    slots["name"] = slots[pool]
    story = slots.fill(rng.choice(texts["plots"]))
    known = [slots[key] for key in ("name",) if slots["name"] in story]
    known += [article(slots[key]) for key in ("animal", "thing") if key in slots]
    if known and rng.random() < 0.7:
        asked = rng.choice(texts["about"]).format(x=rng.choice(known))
    else:
        asked = rng.choice(texts["ask"])
    return pair("story", dress(rng, asked), story)


def text_row(rng: Random) -> Row:
    """One of the rows with a longer answer."""
    makers = (explain_row, howto_row, story_row, portrait_row)
    return rng.choices(makers, (22, 15, 35, 28))[0](rng)
