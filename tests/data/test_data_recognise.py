"""Formats, and what is said about rows that fit none."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tunefork.core.errors import DataError, SpecError
from tunefork.data import Message, load_examples, recognise

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
BITEXT = (
    SHARED
    / "bitext_customer_support"
    / "Bitext_Sample_Customer_Support_Training_Dataset__3.5MB.csv"
)
needs_shared = pytest.mark.skipif(not BITEXT.is_file(), reason="the real data is not here")

USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "name", "expected"),
    [
        ({"messages": [USER, ANSWER]}, "messages", ["Hi", "Hello"]),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "H"}] * 2},
                    ANSWER,
                ]
            },
            "messages",
            ["HH", "Hello"],
        ),
        ({"user": "Hi", "assistant": "Hello", "id": 3}, "user/assistant", ["Hi", "Hello"]),
        (
            {"system": "S", "user": "Hi", "assistant": "Hello"},
            "user/assistant",
            ["S", "Hi", "Hello"],
        ),
        ({"system": "", "user": "Hi", "assistant": "A"}, "user/assistant", ["Hi", "A"]),
        ({"system": None, "user": "Hi", "assistant": "A"}, "user/assistant", ["Hi", "A"]),
        ({"prompt": "Hi", "completion": "Hello"}, "prompt/completion", ["Hi", "Hello"]),
        ({"instruction": "Add", "output": "3"}, "instruction/input/output", ["Add", "3"]),
        (
            {"instruction": "Add", "input": "1+2", "output": "3", "system": "S"},
            "instruction/input/output",
            ["S", "Add\n\n1+2", "3"],
        ),
        (
            {"instruction": "Add", "input": "", "output": "3"},
            "instruction/input/output",
            ["Add", "3"],
        ),
    ],
)
def test_formats(row: Any, name: str, expected: list[str], tmp_path: Path) -> None:
    form = recognise(row)
    assert form is not None
    assert form.name == name
    (example,) = load_examples(_write(tmp_path / "a.jsonl", row))
    assert [message.content for message in example.messages] == expected
    assert example.answer == expected[-1]
    assert [message.content for message in example.prompt] == expected[:-1]


def test_unknown_columns_are_not_recognised() -> None:
    assert recognise({"instruction": "x", "response": "y"}) is None


def test_everything_a_message_can_hold(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "messages": [
            {"role": "user", "content": "Hi", "name": "Ann"},
            {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
            {"role": "tool", "content": "1", "tool_call_id": "c1"},
            {"role": "assistant", "content": "Hello", "weight": 1, "reasoning": "Greet."},
        ],
    }
    (example,) = load_examples(_write(tmp_path / "a.jsonl", row))
    assert example.tools == tuple(row["tools"])
    assert example.messages == (
        Message("user", "Hi", name="Ann"),
        Message("assistant", "", weight=0.0, tool_calls=(call,)),
        Message("tool", "1", tool_call_id="c1"),
        Message("assistant", "Hello", reasoning="Greet."),
    )
    assert [message.as_template() for message in example.messages] == [
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Hello", "reasoning_content": "Greet."},
    ]


def _turn(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER, {**ANSWER, **fields}]}


BAD_ROWS: list[tuple[Any, str, str]] = [
    ({"messages": []}, "an empty list", "remove the row"),
    ({"messages": "Hi"}, "must be a list, but is text", "list of objects"),
    ({"messages": ["Hi"]}, "`messages[0]` must be an object", '"role"'),
    ({"messages": [USER]}, "no assistant turn", '"assistant"'),
    ({"messages": [{"content": "Hi"}]}, "has no `role`", '"role"'),
    ({"messages": [{"from": "human", "value": "Hi"}]}, "has no `role`", "rename `from`"),
    (_turn(role="gpt"), 'unknown role "gpt"', "did you mean `assistant`?"),
    (_turn(role="asistant"), 'unknown role "asistant"', "did you mean `assistant`?"),
    (_turn(role=7), "unknown role 7", "one of these roles"),
    ({"messages": [{"role": "user"}, ANSWER]}, "`messages[0]` has no `content`", '"content"'),
    (_turn(content=None), "`messages[1].content` must be text, but is null", "write"),
    (_turn(content=5), "must be text, but is a number", "write"),
    (_turn(content={"a": 1}), "must be text, but is an object", "write"),
    (_turn(content=[{"type": "image_url"}]), "is no text part", '"type": "text"'),
    (_turn(content=[{"type": "text", "text": 1}]), "must be text, but is a number", "write"),
    (_turn(content="\ud800"), "half a character", "write the character whole"),
    (_turn(weight=2), "must be 0 or 1, but is 2", "0 leaves it out"),
    (_turn(weight=True), "must be 0 or 1, but is true", "0 leaves it out"),
    (_turn(weight="1"), 'must be 0 or 1, but is "1"', "0 leaves it out"),
    (_turn(tool_calls={"name": "f"}), "`messages[1].tool_calls`", "as OpenAI does"),
    (_turn(tool_calls=[{"name": "f"}]), "`messages[1].tool_calls`", "as OpenAI does"),
    (_turn(name=3), "`messages[1].name` must be text", "write"),
    ({**_turn(), "tools": "none"}, "`tools` must be a list of objects", "as OpenAI does"),
    ({"user": "Hi", "assistant": "Hello"}, "has no `messages`", "one format"),
]


@pytest.mark.parametrize(("row", "message", "hint"), BAD_ROWS)
def test_bad_row(row: Any, message: str, hint: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", {"messages": [USER, ANSWER]}, row)
    with pytest.raises(DataError) as caught:
        load_examples(path)
    error = caught.value
    assert message in error.message
    assert hint in str(error.hint)
    assert str(error.where) == f"{path}:2"


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        (
            {"instruction": "x", "response": "y"},
            "data: {map: {user: instruction, assistant: response}}",
        ),
        (
            {"Question": "x", "Answer": "y", "system_prompt": "z"},
            "data: {map: {user: Question, assistant: Answer, system: system_prompt}}",
        ),
        ({"promt": "x", "completion": "y"}, "rename the column `promt` to `prompt`"),
        ({"a": 1, "b": 2}, "data: {map: {user: COLUMN, assistant: COLUMN}}"),
        ({}, "data: {map:"),
    ],
)
def test_wrong_field_names(row: Any, hint: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", row)
    with pytest.raises(DataError) as caught:
        load_examples(path)
    error = caught.value
    assert hint in str(error.hint)
    assert str(error.where) == f"{path}:1"
    assert all(f"`{column}`" in error.message for column in row)
    assert "`instruction` + `output`" in error.details[0]


def test_suggested_map_is_quoted_where_yaml_needs_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", {"Question": 1, "answer": 2})
    load = {"user": "the: question", "assistant": "answer"}
    with pytest.raises(DataError) as caught:
        load_examples(path, load)
    assert "`the: question`" in caught.value.message


def test_all_bad_rows_come_in_one_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = json.dumps({"user": "Hi", "assistant": "Hello"})
    bad = json.dumps({"user": "Hi", "assistant": 3})
    path.write_text("\n".join([good, bad, "{", good, "[]", *[bad] * 6]))
    with pytest.raises(DataError) as caught:
        load_examples(path)
    error = caught.value
    assert str(error.where) == f"{path}:2"
    assert "must be text" in error.message
    assert [detail.split(": ")[0] for detail in error.details[:5]] == [
        f"{path}:{line}" for line in (3, 5, 6, 7, 8)
    ]
    assert error.details[5:] == ("... and 3 more",)


def test_columns_named_by_a_map(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("frage,antwort,rolle\nHi,Hello,Be kind\n")
    mapping = {"user": "frage", "assistant": "antwort", "system": "rolle"}
    (example,) = load_examples(path, mapping)
    assert [turn.content for turn in example.messages] == ["Be kind", "Hi", "Hello"]


@pytest.mark.parametrize(
    ("mapping", "message", "hint"),
    [
        ({"usr": "a", "assistant": "b"}, "unknown key `usr`", "did you mean `user`?"),
        ({"user": "a"}, "`assistant` is missing", "{user: COLUMN"),
        ({}, "`user` is missing", "{user: COLUMN"),
    ],
)
def test_wrong_map_is_a_spec_error(
    mapping: dict[str, str], message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        load_examples(tmp_path / "a.csv", mapping)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)
    assert str(caught.value.where) == "data.map"


def test_map_that_names_no_column_of_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", {"question": "x", "answer": "y"})
    with pytest.raises(DataError, match="no column `qestion`") as caught:
        load_examples(path, {"user": "qestion", "assistant": "answer"})
    assert caught.value.hint == "did you mean `question`?"


@needs_shared
def test_real_file_is_told_its_map_and_then_read() -> None:
    with pytest.raises(DataError) as caught:
        load_examples(BITEXT)
    hint = str(caught.value.hint)
    assert "data: {map: {user: instruction, assistant: response}}" in hint
    examples = load_examples(BITEXT, {"user": "instruction", "assistant": "response"})
    with BITEXT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.answer for row in examples] == [row["response"] for row in rows]
    text = BITEXT.read_text(encoding="utf-8").split("\n")
    for example in examples[::50]:
        assert example.where.line is not None
        question = example.messages[0].content.split("\n")[0]
        assert question.replace('"', '""') in text[example.where.line - 1]
