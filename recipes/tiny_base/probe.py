"""A multiple-choice probe of general knowledge, scored by the log-probability of each choice.

Every item asks for one fact and offers its answer and three wrong ones of the same relation, in
the same form. Half the questions use trained wordings, half held-out ones. Facts are split into
a half to select on and a sealed half, so that no fact is in both. No item is about cats.

Run: ``python -m recipes.tiny_base.probe`` writes it into the package, which ships it.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from recipes.tiny_base.heldout import about_cats
from recipes.tiny_base.tables import (
    GENERAL,
    Fact,
    Relation,
    answer_fields,
    fill,
    relations,
    wrong_facts,
)

Item = dict[str, Any]
_SEED = 77
_CHOICES = 4
# Wrong choices are drawn from the ones closest in length, so that length tells nothing.
_CLOSEST = 6


def _say(rel: Relation, fact: Fact, other: Fact | None = None) -> str:
    return fill(rel.say[0], answer_fields(rel, fact, other))


def _choices(rng: Random, rel: Relation, fact: Fact) -> list[str] | None:
    right = _say(rel, fact)
    wrong = {_say(rel, fact, other) for other in wrong_facts(rel, fact)} - {right}
    usable = sorted(text for text in wrong if not about_cats(text))
    if len(usable) < _CHOICES - 1:
        return None
    usable.sort(key=lambda text: abs(len(text) - len(right)))
    return [right, *rng.sample(usable[:_CLOSEST], _CHOICES - 1)]


def _item(rng: Random, rel: Relation, fact: Fact, held: bool, half: str) -> Item | None:
    frames = rel.held if held else rel.ask
    asked = fill(rng.choice(frames), answer_fields(rel, fact))
    choices = _choices(rng, rel, fact)
    if choices is None or about_cats(asked + choices[0]):
        return None
    right = choices[0]
    rng.shuffle(choices)
    return {
        "question": asked,
        "choices": choices,
        "answer": choices.index(right),
        "group": fact.id,
        "half": half,
    }


def _halves(rng: Random) -> dict[str, str]:
    """Split the facts of every relation into two halves of the same size."""
    halves: dict[str, str] = {}
    for rel in relations():
        groups = [fact.id for fact in rel.facts if fact.id not in halves]
        rng.shuffle(groups)
        first = rng.randrange(2)
        for i, group in enumerate(groups):
            halves[group] = ("select", "sealed")[(i + first) % 2]
    return halves


def probe() -> list[Item]:
    """Build the probe, always the same one."""
    rng = Random(_SEED)
    halves = _halves(rng)
    made: list[Item] = []
    for rel in relations():
        for fact in rel.facts:
            item = _item(rng, rel, fact, len(made) % 2 == 1, halves[fact.id])
            if item is not None:
                made.append(item)
    return made


def main() -> None:
    """Write the probe as JSON lines."""
    with (GENERAL / "probe.jsonl").open("w", encoding="utf-8") as file:
        for item in probe():
            file.write(json.dumps(item, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
