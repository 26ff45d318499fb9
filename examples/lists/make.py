"""Write the prompts of this example: `python examples/lists/make.py`.

Every prompt asks for a number of things of one kind as a JSON list. Kinds that are trained, held
out and asked as golden questions do not overlap.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
KINDS = {
    "train": (
        *("fruits", "animals", "colours", "jobs", "vehicles", "sports", "tools", "birds"),
        *("countries", "clothes", "body parts", "trees", "days", "rooms", "feelings", "shapes"),
        *("farm animals", "insects", "toys", "languages", "pets", "numbers", "foods", "boats"),
    ),
    "held_out": ("drinks", "cities", "months", "flowers", "wild animals", "kitchen things"),
    "golden": ("vegetables", "instruments", "seasons", "fish", "garden plants", "school things"),
}
ASKED = (
    "Name {n} {kind}.",
    "Tell me {n} {kind}.",
    "List {n} {kind}.",
    "Can you name {n} {kind}?",
    "Give me {n} {kind}.",
)
FORM = ("Answer as a JSON list.", "Write it as a JSON array.", "Reply with a JSON list only.")


def prompts(part: str, seed: int) -> list[tuple[str, int, str]]:
    """Return (text, number of things, kind) of each prompt."""
    rng = random.Random(seed)
    found = []
    for kind in KINDS[part]:
        for count, word in NUMBERS.items():
            for asked in rng.sample(ASKED, 3 if part == "train" else 2):
                text = f"{asked.format(n=word, kind=kind)} {rng.choice(FORM)}"
                found.append((text, count, kind))
    rng.shuffle(found)
    return found


def schema(count: int) -> dict[str, object]:
    """Return what a right answer is: so many different words or short phrases."""
    word = {"type": "string", "pattern": "^[a-zA-Z]{2,}( [a-zA-Z]{2,})?$"}
    return {
        "type": "array",
        "items": word,
        "minItems": count,
        "maxItems": count,
        "uniqueItems": True,
    }


def main(folder: Path) -> None:
    """Write the three files."""
    for seed, part in enumerate(("train", "held_out")):
        rows = [
            {"messages": [{"role": "user", "content": text}], "count": count, "kind": kind}
            for text, count, kind in prompts(part, seed)
        ]
        _write(folder / f"{part}.jsonl", rows)
    questions = [
        {
            "question": text,
            "grader": {"type": "json_schema", "schema": schema(count)},
            "group": kind,
        }
        for text, count, kind in prompts("golden", 2)
    ]
    _write(folder / "golden.jsonl", questions)


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
