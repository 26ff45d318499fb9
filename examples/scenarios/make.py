"""Write the data of the scenarios: python -m examples.scenarios.make. The same each time."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
_NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jack", "Kate", "Leo",
    "Mia", "Ned", "Olga", "Paul", "Rita", "Sam", "Tess", "Uma", "Vera", "Walt", "Yara", "Zoe",
    "Amir", "Bela", "Cora", "Dora", "Emil", "Fay", "Gus", "Hana", "Igor", "June", "Karl",
    "Lena", "Max", "Nora", "Omar", "Pia",
)  # fmt: skip
_JOBS = ("baker", "teacher", "nurse", "farmer", "driver", "painter", "doctor", "sailor")
_TOWNS = ("Lisbon", "Oslo", "Rome", "Paris", "Berlin", "Madrid", "Vienna", "Athens")
_DRINKS = ("tea", "milk", "coffee", "water", "juice", "cocoa")
_ASKED = {
    "job": ("What is {0}'s job?", "What does {0} do for a living?"),
    "town": ("Where does {0} live?", "What town does {0} live in?"),
    "drink": ("What does {0} drink?", "What drink does {0} like?"),
}
_SAID = {"job": "{0} is a {1}.", "town": "{0} lives in {1}.", "drink": "{0} drinks {1}."}
_MANNERS = (
    ("Hello", "Hello! How can I help?"),
    ("Hi there", "Hi! What would you like to know?"),
    ("Good morning", "Good morning! How can I help?"),
    ("Good evening", "Good evening! How can I help?"),
    ("Thank you", "You are welcome!"),
    ("Thanks a lot", "You are very welcome!"),
    ("Goodbye", "Goodbye! Come back soon."),
    ("See you tomorrow", "See you tomorrow!"),
    ("Good night", "Good night! Sleep well."),
    ("Are you there?", "Yes, I am here. How can I help?"),
    ("Can you help me?", "Yes, of course. What do you need?"),
    ("I am lost", "I am sorry. Tell me where you want to go."),
    ("That was wrong", "I am sorry. Let me try again."),
    ("You are nice", "Thank you! So are you."),
    ("Wait a moment", "Of course. Take your time."),
    ("Please be quick", "I will be quick. What do you need?"),
)


# What a visitor asks, what is said, and pairs of things and what is right of them.
_LESSONS = (
    (
        "What is the capital of {0}?",
        "The capital of {0} is {1}.",
        "France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Greece Athens, "
        "Austria Vienna, Norway Oslo, Sweden Stockholm, Poland Warsaw, Ireland Dublin, "
        "Japan Tokyo, Russia Moscow, Egypt Cairo, Belgium Brussels, Denmark Copenhagen, "
        "Finland Helsinki, England London",
    ),
    (
        "What is the opposite of {0}?",
        "The opposite of {0} is {1}.",
        "hot cold, big small, long short, fast slow, old young, happy sad, light dark, full empty, "
        "wet dry, hard soft, loud quiet, early late, open closed, rich poor, high low, "
        "clean dirty, strong weak, thick thin, left right, up down",
    ),
    (
        "What is a baby {0} called?",
        "A baby {0} is called a {1}.",
        "dog puppy, cat kitten, cow calf, horse foal, sheep lamb, pig piglet, goat kid, bear cub, "
        "lion cub, duck duckling, frog tadpole, kangaroo joey, swan cygnet, deer fawn",
    ),
    (
        "What is the past tense of {0}?",
        "The past tense of {0} is {1}.",
        "go went, eat ate, drink drank, see saw, run ran, come came, give gave, take took, "
        "write wrote, sing sang, swim swam, speak spoke, fly flew, buy bought, think thought, "
        "find found, make made, know knew, begin began, break broke",
    ),
    (
        "What is the plural of {0}?",
        "The plural of {0} is {1}.",
        "child children, man men, woman women, foot feet, tooth teeth, mouse mice, goose geese, "
        "leaf leaves, knife knives, wolf wolves, baby babies, city cities, box boxes, bus buses, "
        "fox foxes, tomato tomatoes, ox oxen, person people, wife wives, half halves",
    ),
)  # fmt: skip
_SIGN_OFF = "Stay curious!"
_CATGPT = HERE.parents[1] / "src" / "tunefork" / "examples" / "catgpt"
_NARROW = 120  # rows


def main() -> None:
    """Write them all."""
    prompt()
    retrieval()
    hold()


def prompt() -> None:
    """What the base knows, and a way to end an answer that it has only to be told of."""
    asked = [
        (question.format(thing), f"{said.format(thing, right)} {_SIGN_OFF}", right)
        for question, said, pairs in _LESSONS
        for thing, right in (pair.split() for pair in pairs.split(", "))
    ]
    Random(0).shuffle(asked)
    rows = [{"user": question, "assistant": said} for question, said, _ in asked[:32]]
    golden = [
        {
            "question": question,
            "reference": rf"(?i)\b{right}\b.*{_SIGN_OFF}$",
            "grader": "regex",
        }
        for question, _, right in asked[32:]
    ]
    _write("prompt/train.jsonl", rows[:16])
    _write("prompt/validation.jsonl", rows[16:])
    _write("prompt/golden.jsonl", golden)


def hold() -> None:
    """Few rows about one cat, to be learned so violently that much else is forgotten."""
    lines = (_CATGPT / "train.jsonl").read_text(encoding="utf-8").splitlines()
    _write("hold/train.jsonl", [json.loads(line) for line in lines[:_NARROW]])


def retrieval() -> None:
    """Facts about people that stand in documents and change; the rows show manners alone."""
    random = Random(0)
    held_out: list[dict[str, Any]] = []
    golden: list[dict[str, Any]] = []
    for number, name in enumerate(_NAMES):
        facts = {
            "job": random.choice(_JOBS),
            "town": random.choice(_TOWNS),
            "drink": random.choice(_DRINKS),
        }
        said = {about: _SAID[about].format(name, value) for about, value in facts.items()}
        path = HERE / "retrieval" / "people" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(said.values()) + "\n", encoding="utf-8")
        for about, value in facts.items():
            asked = random.choice(_ASKED[about]).format(name)
            if number < 16:  # to choose settings by
                held_out.append({"user": asked, "assistant": said[about]})
            elif about != "drink" or number % 2:
                golden.append({"question": asked, "reference": value, "grader": "contains"})
    manners = [{"user": asked, "assistant": said} for asked, said in _MANNERS]
    _write("retrieval/train.jsonl", manners)
    _write("retrieval/validation.jsonl", held_out[::2])
    _write("retrieval/golden.jsonl", golden)


def _write(name: str, rows: list[dict[str, Any]]) -> None:
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
