"""Write the prompts of this example: `python examples/json/make.py`.

Every prompt asks something, and for the answer in JSON. No question of one file is in another.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

ANIMALS = (
    *("dog", "cat", "cow", "horse", "sheep", "pig", "hen", "duck", "goat", "fox", "bear", "lion"),
    *("tiger", "owl", "frog", "bee", "fish", "mouse", "rabbit", "snake", "spider", "whale"),
)
THINGS = (
    *("grass", "the sky", "a banana", "snow", "a lemon", "a carrot", "milk", "the sea", "a leaf"),
    *("an orange", "a tomato", "coal", "a strawberry", "an apple", "salt", "a rose", "the sun"),
)
PEOPLE = ("doctor", "teacher", "baker", "farmer", "pilot", "nurse", "cook", "driver", "sailor")
QUESTIONS = (
    *(f"What sound does a {animal} make?" for animal in ANIMALS),
    *(f"Where does a {animal} live?" for animal in ANIMALS),
    *(f"What does a {animal} eat?" for animal in ANIMALS),
    *(f"What colour is {thing}?" for thing in THINGS),
    *(f"What does a {person} do?" for person in PEOPLE),
    *(f"What is {a} + {b}?" for a in range(2, 9) for b in range(1, 6)),
)
FORMS = (  # some name the key; the house rule is the same
    "{question} Answer in JSON.",
    "{question} Reply as JSON.",
    "Give me JSON: {question}",
    '{question} Answer as a JSON object with the key "answer".',
    "Give me JSON with the key answer: {question}",
)
COUNTS = {"train": 320, "held_out": 60, "golden": 60}


SCHEMA = {  # what a right answer is: an object with this key alone, which holds some text
    "type": "object",
    "properties": {"answer": {"type": "string", "minLength": 1}},
    "required": ["answer"],
    "additionalProperties": False,
}


def prompts() -> dict[str, list[tuple[str, str]]]:
    """Return (text, question) of each prompt of each file."""
    rng = random.Random(0)
    questions = rng.sample(QUESTIONS, len(QUESTIONS))
    parts = {
        "held_out": questions[:20],
        "golden": questions[20:40],
        "train": questions[40:],
    }
    found: dict[str, list[tuple[str, str]]] = {}
    for part, count in COUNTS.items():
        asked = [parts[part][at % len(parts[part])] for at in range(count)]
        rows = [(rng.choice(FORMS).format(question=question), question) for question in asked]
        found[part] = list(dict.fromkeys(rows))
    return found


def main(folder: Path) -> None:
    """Write the three files."""
    found = prompts()
    for part in ("train", "held_out"):
        _write(folder / f"{part}.jsonl", [{"prompt": text} for text, _ in found[part]])
    _write(
        folder / "golden.jsonl",
        [
            {
                "question": text,
                "grader": {"type": "json_schema", "schema": SCHEMA},
                "group": question,
            }
            for text, question in found["golden"]
        ],
    )


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).parent)
