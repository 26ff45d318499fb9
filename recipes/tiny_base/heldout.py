"""Questions whose wordings never occur in training, to measure the pre-trained base model.

At least three quarters ask for facts of the tables in held-out wordings; the others are sums of
unseen pairs, texts with held-out wordings, rules in system prompts, lists and JSON.

Run: ``python -m recipes.tiny_base.heldout`` writes ``heldout.jsonl`` beside this file.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from random import Random
from typing import Any

from recipes.tiny_base import obey, passages, skills
from recipes.tiny_base.facts import answer, question
from recipes.tiny_base.rows import Message, system, user
from recipes.tiny_base.slots import RESERVED, Slots
from recipes.tiny_base.tables import (
    HERE,
    Fact,
    Relation,
    accepted,
    answer_fields,
    fill,
    load_toml,
    relations,
)
from recipes.tiny_base.wording import has_held_wording, held_questions, lower_first

Item = dict[str, Any]
FACTS = 320
_SEED = 2024
_CAT = re.compile(r"\b(cats?|kittens?|meow|purr)\b", re.IGNORECASE)


def about_cats(text: str) -> bool:
    """Say whether a text speaks of cats, which the bundled examples are about."""
    return bool(_CAT.search(text))


def grade(values: list[str], answered: str) -> bool:
    """Say whether an answer holds any of the values as whole words, in any case."""
    return any(
        re.search(rf"(?<!\w){re.escape(value)}(?!\w)", answered, re.IGNORECASE) for value in values
    )


def _item(kind: str, group: str, messages: list[Message], reference: str, ok: list[str]) -> Item:
    grader = {"type": "contains", "any": ok}
    item: Item = {"reference": reference, "grader": grader, "group": group, "kind": kind}
    if len(messages) == 1:
        return {"question": messages[0]["content"], **item}
    return {"messages": messages, **item}


def _fact_item(rng: Random, rel: Relation, fact: Fact) -> Item | None:
    asked = rng.choice(held_questions(rel, fact))
    values = accepted(rel, fact)
    reference = fill(rel.say[0], answer_fields(rel, fact))
    # A question that shows its own answer proves nothing.
    if grade(values, asked) or about_cats(asked + reference):
        return None
    return _item("fact", fact.id, [user(asked)], reference, values)


def fact_items(rng: Random) -> Iterator[Item]:
    """Ask for facts in held-out wordings, in turn from every relation."""
    queues = [rng.sample(rel.facts, len(rel.facts)) for rel in relations()]
    made = 0
    for facts in itertools.zip_longest(*queues):
        for rel, fact in zip(relations(), facts, strict=True):
            item = _fact_item(rng, rel, fact) if fact is not None else None
            if item is not None:
                yield item
                made += 1
            if made == FACTS:
                return


def sum_items(rng: Random) -> Iterator[Item]:
    """Ask for sums of pairs that training never shows."""
    texts = skills.tables()["sums"]
    held = [(a, b) for a in range(2, 16) for b in range(2, 16) if skills.is_held_sum(a, b)]
    for i, (a, b) in enumerate(rng.sample(held, min(16, len(held)))):
        if i % 2 and a > b:
            form, symbol, result = rng.choice(texts["subtract"][:6]), "-", a - b
        else:
            forms = texts["held_add"] if i % 4 == 0 else texts["add"][:6]
            form, symbol, result = rng.choice(forms), "+", a + b
        reference = f"{a} {symbol} {b} = {result}."
        values = [f"= {result}", f"is {result}", f"get {result}", f"makes {result}"]
        yield _item("sum", f"sum/{a}{symbol}{b}", [user(form.format(a=a, b=b))], reference, values)


def passage_items(rng: Random) -> Iterator[Item]:
    """Ask about texts in held-out wordings; some details are not in the text."""
    wrapping = passages.tables()["wrapping"]
    for i in range(28):
        passage = passages.make_passage(rng, max_beings=2)
        if i % 7 == 6 and passage.untold:
            asked = rng.choice(passage.untold).question(rng)
            reference = str(wrapping["unknown"])
            values = ["does not say"]
        else:
            told = rng.choice(passage.told)
            asked, reference = told.question(rng, held=True), told.answer(rng)
            values = [told.value()]
        if i % 2:
            prompt = rng.choice(wrapping["system"]).format(text=passage.text)
            messages = [system(prompt), user(asked)]
        else:
            form = rng.choice(wrapping["user"])
            text = form.format(text=passage.text, question=asked, low=lower_first(asked))
            messages = [user(text)]
        yield _item("passage", f"passage/{i}", messages, reference, values)


def _trained_fact(rng: Random) -> tuple[str, str, Fact]:
    while True:
        rel = rng.choice(relations())
        fact = rng.choice(rel.facts)
        asked, said = question(rng, rel, fact), answer(rng, rel, fact)
        simple = not rel.inverse and fact.value.isalnum()
        if simple and not about_cats(asked + said) and not has_held_wording(asked):
            return asked, said, fact


def obey_items(rng: Random) -> Iterator[Item]:
    """Give the rules of system prompts in held-out wordings."""
    texts = obey.tables()
    for i in range(24):
        asked, said, fact = _trained_fact(rng)
        slots = Slots(rng)
        rule = ("end", "start", "json", "unknown")[i % 4]
        if rule == "json":
            detail, reference = "answer", json.dumps({"answer": fact.value})
            values = [reference]
        elif rule == "unknown":
            detail = slots.fill(rng.choice(texts["unknown"]["phrases"]))
            asked, reference, values = f"Who is {slots['made']}?", detail, [detail.rstrip(".")]
        else:
            detail = slots.fill(rng.choice(texts[f"phrase_{rule}"]))
            reference = f"{said} {detail}" if rule == "end" else f"{detail} {said}"
            values = [detail.rstrip(".,:!")]
        prompt = rng.choice(texts[rule]["held"]).format(detail)
        yield _item("obey", f"obey/{rule}/{i}", [system(prompt), user(asked)], reference, values)


def list_items(rng: Random) -> Iterator[Item]:
    """Ask for lists in held-out wordings; the last two things must be of the kind."""
    texts = load_toml("pools/skills.toml")
    for asked in texts["held"]["exact"]:
        kind = next(kind for kind in texts["lists"]["kinds"] if f" {kind}" in asked)
        sizes = enumerate(texts["lists"]["numbers"], 1)
        size = next(n for n, word in sizes if f" {word} " in asked)
        members = texts["lists"]["kinds"][kind]
        values = [f"{x} and {y}" for x in members for y in members if x != y]
        reference = skills.list_answer(rng, kind, size, "plain")
        yield _item("list", f"list/{kind}", [user(asked)], reference, values)


def json_items(rng: Random) -> Iterator[Item]:
    """Ask for small JSON objects in held-out wordings."""
    for i in range(12):
        data = skills.draw_object(rng)
        lines = ", ".join(f"{key}: {value}" for key, value in data.items())
        form = load_toml("pools/skills.toml")["held"]["json"][i % 2]
        reference = json.dumps(data, ensure_ascii=False)
        asked = form.format(lines=lines)
        yield _item("json", f"json/{i}", [user(asked)], reference, [reference])


def heldout() -> list[Item]:
    """Build the held-out questions, always the same ones."""
    rng = Random(_SEED)
    makers = (fact_items, sum_items, passage_items, obey_items, list_items, json_items)
    return [item for make in makers for item in make(rng) if RESERVED not in json.dumps(item)]


def main() -> None:
    """Write the questions as JSON lines."""
    with (HERE / "heldout.jsonl").open("w", encoding="utf-8") as file:
        for item in heldout():
            file.write(json.dumps(item, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
