"""Fill text templates from pools of words, keeping each choice for the rest of the text."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from recipes.tiny_base.tables import indefinite, load_toml

# The bundled examples teach this pet's story, so the base model must not know the name.
RESERVED = "Ollie"
_DIGITS = re.compile(r"\d+$")
# Names for one purpose that come from the pool of another.
_SAME_POOL = {"relative": "name", "pet_call": "any_pet_name", "shop_town": "town"}


@cache
def pools() -> dict[str, list[str]]:
    """Load the pools of words."""
    return load_toml("pools/words.toml")


def made_name(rng: Random) -> str:
    """Make up a name that no table holds, so that it can only be copied."""
    words = pools()
    while True:
        body = "".join(rng.choice(words["syllable"]) for _ in range(rng.choice((2, 2, 3))))
        name = body + rng.choice(words["name_end"])
        if name not in words["not_names"]:
            return name.capitalize()


class Slots(dict[str, str]):
    """Words for the placeholders of a text, drawn when first needed and then kept.

    ``{food}`` draws from the pool ``food``, ``{food2}`` draws another one from it, and
    ``{a_thing}`` is the kept thing with its article.
    """

    def __init__(self, rng: Random, **known: str) -> None:
        super().__init__(known)
        self.rng = rng

    def __missing__(self, key: str) -> str:
        value = self._draw(key)
        self[key] = value
        return value

    def _draw(self, key: str) -> str:
        if key.startswith("a_"):
            return f"{indefinite(self[key[2:]])} {self[key[2:]]}"
        pool = _DIGITS.sub("", key)
        pool = _SAME_POOL.get(pool, pool)
        if pool == "made":
            return made_name(self.rng)
        if pool == "any_pet_name":
            made = self.rng.random() < 0.4
            return made_name(self.rng) if made else self.rng.choice(pools()["pet_name"])
        for _ in range(20):
            value = self._resolve(self.rng.choice(pools()[pool]))
            if value not in self.values():
                break
        return value

    def _resolve(self, entry: str) -> str:
        while "{" in entry:
            start = entry.index("{")
            end = entry.index("}", start)
            entry = entry[:start] + self._draw(entry[start + 1 : end]) + entry[end + 1 :]
        return entry

    def fill(self, template: str) -> str:
        """Fill one template and start it with a capital letter."""
        text = template.format_map(self)
        return text[:1].upper() + text[1:]
