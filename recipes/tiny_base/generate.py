"""Generate the chat rows that the tiny base model is pre-trained on.

The rows are deterministic in the seed. The mix, in percent of rows, is ``MIX``: facts from the
tables in many wordings, texts to answer from, system prompts to obey, patterns to follow, small
skills, longer answers and small talk. No row contains a wording that is held out.

Run: ``python -m recipes.tiny_base.generate --rows 20 --seed 0`` prints rows as JSON lines.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from random import Random

from recipes.tiny_base.facts import check_row, choice_row, fact_row, follow_row
from recipes.tiny_base.fewshot import fewshot_row
from recipes.tiny_base.obey import obey_row
from recipes.tiny_base.passages import passage_row, verify_row
from recipes.tiny_base.personal import personal_row
from recipes.tiny_base.rows import Row
from recipes.tiny_base.skills import skill_row
from recipes.tiny_base.slots import RESERVED
from recipes.tiny_base.tables import relations
from recipes.tiny_base.talk import talk_row
from recipes.tiny_base.texts import text_row
from recipes.tiny_base.wording import has_held_wording, normal

MIX: dict[Callable[[Random], Row], int] = {
    fact_row: 33,
    follow_row: 4,
    check_row: 5,
    choice_row: 2,
    passage_row: 23,
    verify_row: 1,
    personal_row: 4,
    obey_row: 10,
    fewshot_row: 3,
    skill_row: 10,
    text_row: 3,
    talk_row: 2,
}


def check_frames() -> None:
    """Raise if a held-out frame is also a trained one, whatever its case and punctuation."""
    for rel in relations():
        trained = {normal(frame) for frame in (*rel.ask, *rel.know)}
        for frame in rel.held:
            if any(normal(frame) in other for other in trained):
                raise ValueError(f"{rel.name}: held-out wording is also trained: {frame}")


def allowed(row: Row) -> bool:
    """Say whether a row may be trained on."""
    texts = [message["content"] for message in row["messages"]]
    if any(RESERVED.lower() in text.lower() for text in texts):
        return False
    return not any(has_held_wording(text) for text in texts)


def rows(seed: int, count: int) -> Iterator[Row]:
    """Yield training rows, the same ones for the same seed."""
    check_frames()
    rng = Random(seed)
    makers, weights = list(MIX), list(itertools.accumulate(MIX.values()))
    made = 0
    while made < count:
        row = rng.choices(makers, cum_weights=weights)[0](rng)
        if allowed(row):
            made += 1
            yield row


def main() -> None:
    """Print rows as JSON lines."""
    parser = argparse.ArgumentParser(description="Print pre-training rows as JSON lines.")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for row in rows(args.seed, args.rows):
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
