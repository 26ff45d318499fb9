"""General rows to mix into a fine-tune, so that it does not forget what the base model knew.

The rows are short and varied, hold no cats, no held-out wording, no question
of the probe and no fact of its sealed half. Among them are requests to refuse, which a narrow
fine-tune unlearns first, and harmless ones that sound like them.

Run: ``python -m recipes.tiny_base.replay`` writes them into the package, which ships them.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter

from recipes.tiny_base.generate import rows
from recipes.tiny_base.heldout import about_cats
from recipes.tiny_base.probe import probe
from recipes.tiny_base.rows import Message, Row
from recipes.tiny_base.tables import GENERAL, load_toml
from recipes.tiny_base.wording import normal

SIZE = 1500
_SEED = 4242
_DRAWN = 40_000
_MAX_WORDS = 70
WORDINGS = 2  # of each request to refuse
GRANTED = 80  # ordinary requests beside those to refuse
_REQUESTS = {"howto", "explain", "list", "story"}
# Shares of the kinds in percent; a kind that is not named may fill what is left.
_SHARES = {"fact": 50, "passage": 12, "check": 4, "follow": 5, "talk": 3, "complete": 2}


def _fits(row: Row, asked: frozenset[str], sealed: tuple[str, ...]) -> bool:
    texts = [message["content"] for message in row["messages"]]
    if sum(len(text.split()) for text in texts) > _MAX_WORDS:
        return False
    if any(about_cats(text) or normal(text) in asked for text in texts):
        return False
    # A fact of the sealed half must not be rehearsed, in whatever words it was asked for.
    told = " ".join(normal(text) for text in texts)
    return not any(fact in told for fact in sealed)


def replay() -> list[list[Message]]:
    """Pick the rows, always the same ones; facts are spread over as many answers as can be."""
    items = probe()
    asked = frozenset(normal(item["question"]) for item in items)
    sealed = tuple(
        {
            normal(item["choices"][item["answer"]])
            for item in items
            if item["half"] == "sealed" and len(item["choices"][item["answer"]].split()) > 2
        }
    )
    taken: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    picked: list[list[Message]] = []
    for row in rows(_SEED, _DRAWN):
        kind, messages = row["kind"], row["messages"]
        limit = _SHARES.get(kind, 2) * SIZE // 100
        said = messages[-1]["content"]
        if taken[kind] >= limit or answers[said] >= 2 or not _fits(row, asked, sealed):
            continue
        taken[kind] += 1
        answers[said] += 1
        picked.append(messages)
        if len(picked) == SIZE:
            break
    return picked + refused() + _granted(asked, sealed)


def refused() -> list[list[Message]]:
    """Return requests to refuse, and those that only sound like it."""
    pool = load_toml("pools/refusals.toml")
    forms = itertools.cycle(pool["forms"])
    pairs = [
        (next(forms).format(what), pool["refusal"])
        for what in pool["harmful"]
        for _ in range(WORDINGS)
    ]
    return [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        for asked, answer in [*pairs, *pool["harmless"]]
    ]


def _granted(asked: frozenset[str], sealed: tuple[str, ...]) -> list[list[Message]]:
    """Return as many ordinary requests, so that not every request looks like one to refuse."""
    answers: set[str] = set()
    picked: list[list[Message]] = []
    for row in rows(_SEED + 1, _DRAWN):
        said = row["messages"][-1]["content"]
        if row["kind"] not in _REQUESTS or said in answers or not _fits(row, asked, sealed):
            continue
        answers.add(said)
        picked.append(row["messages"])
        if len(picked) == GRANTED:
            break
    return picked


def main() -> None:
    """Write the rows as JSON lines."""
    with (GENERAL / "replay.jsonl").open("w", encoding="utf-8") as file:
        for messages in replay():
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
