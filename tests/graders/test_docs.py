"""`docs/graders.md` is complete, and its examples are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tunefork.graders import grade_many, known_graders, parse_grader

TEXT = (Path(__file__).parents[2] / "docs" / "graders.md").read_text(encoding="utf-8")
EXAMPLES = [
    line
    for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
GRADERS = [line for line in EXAMPLES if line.startswith('{"type"')]
# `voice` needs more texts than fit into a table.
WITHOUT_EXAMPLE = {"numeric", "voice"}


@pytest.mark.parametrize("line", GRADERS, ids=lambda line: str(json.loads(line)["type"]))
def test_examples_are_graders(line: str) -> None:
    item = {"chunks": ["It opens at 8:30."], "question": "When?"}
    grader = parse_grader(json.loads(line), reference="8:30", where=None, item=item)
    assert grader.describe()
    (grade,) = grade_many([grader], ["It opens at 8:30 [1]."], ask=lambda asked: ["1"] * len(asked))
    assert 0 <= grade.score <= 1
    assert grade.error in (None, "model_grader_parse_error")  # a label or letter is no number


def test_each_grader_has_an_example_and_a_row_with_its_settings() -> None:
    assert {json.loads(line)["type"] for line in GRADERS} | WITHOUT_EXAMPLE == set(known_graders())
    rows = {line.split("|")[1]: line for line in TEXT.splitlines() if line.startswith("| `")}
    for name in known_graders():
        (row,) = [line for names, line in rows.items() if f"`{name}`" in names]
        for setting in _settings(name) - {"type", "name"}:
            assert f"`{setting}" in row, f"{name} lacks {setting}"


def _settings(name: str) -> set[str]:
    try:
        parse_grader({"type": name, "no such setting": 1}, reference="1", where=None)
    except ValueError as error:
        return set(re.findall(r"[a-z_]+", str(error).split("known are ")[1]))
    raise AssertionError("an unknown setting was accepted")
