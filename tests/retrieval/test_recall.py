"""Recall counts questions with a right source among the hits; bad question files say where."""

from pathlib import Path

import pytest

from tunefork.core.errors import DataError, Where
from tunefork.retrieval import Chunk, Hit, SourcedQuestion, load_sourced, recall_at


def test_recall_is_the_share_of_questions_whose_source_is_found() -> None:
    where = Where("q.jsonl", 1)
    first = SourcedQuestion("a", ("a.md", "b.md"), where)
    second = SourcedQuestion("c", ("c.md",), where)
    hits = {"a": [Hit(Chunk("", "x.md"), 2), Hit(Chunk("", "b.md"), 1)], "c": []}
    assert recall_at([first, second], hits.__getitem__) == (0.5, [second])


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '{"question": "a"}',
        '{"question": 1, "sources": ["a"]}',
        '{"question": "a", "sources": []}',
        '{"question": "a", "sources": "a.md"}',
    ],
)
def test_a_line_that_is_no_question_says_where(tmp_path: Path, line: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "a", "sources": ["a.md"]}\n\n' + line + "\n")
    with pytest.raises(DataError) as error:
        load_sourced(path)
    assert error.value.where == Where(str(path), 3)


def test_a_file_without_questions_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    for name in ("empty.jsonl", "missing.jsonl"):
        with pytest.raises(DataError):
            load_sourced(tmp_path / name)
