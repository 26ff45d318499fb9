"""The formats that rows can be written in, each with the columns it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tunefork.data.convert import shapes
from tunefork.data.convert.sharegpt import sharegpt
from tunefork.data.example import Kind

# What a column holds: text, a list of texts, true or false, a list of turns, a list of sharegpt's
# turns, a list of pairs of texts, any JSON, or an object of turns and tools.
Column = Literal["text", "texts", "bool", "turns", "from_value", "rounds", "json", "input"]
Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Target:
    """A format to write."""

    shape: shapes.Shape
    columns: Columns | None  # None: those of the kind of the first row
    ending: str = ".jsonl"


TABLE_COLUMNS: dict[Kind, Columns] = {
    "chat": {"system": "text", "user": "text", "assistant": "text"},
    "preference": {"system": "text", "prompt": "text", "chosen": "text", "rejected": "text"},
    "judged": {"system": "text", "prompt": "text", "completion": "text", "label": "bool"},
    "labelled": {"text": "text", "label": "text"},
    "text": {"text": "text"},
    "prompts": {"system": "text", "prompt": "text", "item": "json"},
}
LISTED_LABELS: Columns = {"text": "text", "label": "texts"}
NATURAL_COLUMNS: dict[Kind, Columns] = {
    "chat": {"messages": "turns", "tools": "json"},
    "preference": {"prompt": "turns", "chosen": "turns", "rejected": "turns", "tools": "json"},
    "judged": {"prompt": "turns", "completion": "turns", "label": "bool", "tools": "json"},
    "labelled": TABLE_COLUMNS["labelled"],
    "text": TABLE_COLUMNS["text"],
    "prompts": {"prompt": "turns", "item": "json", "tools": "json"},
}
TARGETS: dict[str, Target] = {
    "chat": Target(shapes.chat, NATURAL_COLUMNS["chat"]),
    "prompt-completion": Target(shapes.prompt_completion, {"prompt": "text", "completion": "text"}),
    "alpaca": Target(
        shapes.alpaca,
        {
            "instruction": "text",
            "input": "text",
            "output": "text",
            "system": "text",
            "history": "rounds",
        },
    ),
    "sharegpt": Target(sharegpt, {"conversations": "from_value", "tools": "text"}),
    "openai-preference": Target(
        shapes.openai_preference,
        {"input": "input", "preferred_output": "turns", "non_preferred_output": "turns"},
    ),
    "preference": Target(shapes.preference, NATURAL_COLUMNS["preference"]),
    "kto": Target(shapes.kto, NATURAL_COLUMNS["judged"]),
    "labels": Target(shapes.labels, TABLE_COLUMNS["labelled"]),
    "text": Target(shapes.text, TABLE_COLUMNS["text"]),
    "prompts": Target(shapes.prompts, NATURAL_COLUMNS["prompts"]),
    "csv": Target(shapes.table, None, ".csv"),
    "parquet": Target(shapes.natural, None, ".parquet"),
}
