"""Every format in all its spellings, what its rows become, and what is unclear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunefork.core.errors import DataError, SpecError, Where
from tunefork.data import load_examples
from tunefork.data.example import Example, Judged, Labelled, Message, Preference, Row, Text
from tunefork.data.recognise import Recognised, recognise, scan_rows

USER, ANSWER = Message("user", "Hi"), Message("assistant", "Hello")
WORSE = Message("assistant", "Go away")
ASKED = {"role": "user", "content": "Hi"}
SAID = {"role": "assistant", "content": "Hello"}
SAID_WORSE = {"role": "assistant", "content": "Go away"}
HUMAN = {"from": "human", "value": "Hi"}
GPT = {"from": "gpt", "value": "Hello"}
CALL = {"name": "f", "arguments": {"x": 1}}
CALLED = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
SHORT = "\n\nHuman: Hi\n\nAssistant:"


def _write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _one(row: Any, tmp_path: Path, mapping: dict[str, str] | None = None) -> Row:
    (found,) = scan_rows(_write(tmp_path / "a.jsonl", row), mapping)
    assert not isinstance(found, DataError), found
    return found


CHATS: list[tuple[str, Any, list[Message]]] = [
    ("sharegpt", {"conversations": [HUMAN, GPT]}, [USER, ANSWER]),
    ("sharegpt", {"conversation": [HUMAN, GPT]}, [USER, ANSWER]),
    ("sharegpt", {"messages": [HUMAN, GPT]}, [USER, ANSWER]),
    ("sharegpt", {"conversations": [ASKED, SAID]}, [USER, ANSWER]),
    ("sharegpt", {"conversations": json.dumps([HUMAN, GPT])}, [USER, ANSWER]),
    (
        "sharegpt",
        {"conversations": [HUMAN, GPT], "system": "S"},
        [Message("system", "S"), USER, ANSWER],
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "system", "value": "T"}, HUMAN, GPT], "system": "S"},
        [Message("system", "T"), USER, ANSWER],
    ),
    *(
        ("sharegpt", {"conversations": [HUMAN, {"from": role, "value": "Hello"}]}, [USER, ANSWER])
        for role in ("assistant", "bot", "chatgpt", "GPT", "model", "ai", "bing", " Assistant")
    ),
    *(
        (
            "sharegpt",
            {
                "conversations": [
                    {"from": "user", "value": "Hi"},
                    {"from": calls, "value": json.dumps(CALL)},
                    {"from": results, "value": "1"},
                    GPT,
                ]
            },
            [USER, Message("assistant", "", tool_calls=(CALLED,)), Message("tool", "1"), ANSWER],
        )
        for calls, results in (
            ("function_call", "observation"),
            ("tool_call", "tool_response"),
            ("function_call", "tool"),
        )
    ),
    ("rounds", {"conversation": [{"human": "Hi", "assistant": "Hello"}]}, [USER, ANSWER]),
    (
        "messages in parts",
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "Hi"}], "loss_weight": 0.0},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "Hm."},
                        {"type": "tool_call", "value": json.dumps(CALL)},
                    ],
                    "loss_weight": 1.0,
                },
            ]
        },
        [
            Message("user", "Hi", weight=0.0),
            Message("assistant", "", reasoning="Hm.", tool_calls=(CALLED,)),
        ],
    ),
    (
        "messages",
        {"messages": [ASKED, {**SAID, "loss": False}, ASKED, {**SAID, "train": True}]},
        [USER, Message("assistant", "Hello", weight=0.0), USER, ANSWER],
    ),
    ("query/response", {"query": "Hi", "response": "Hello"}, [USER, ANSWER]),
    (
        "query/response",
        {"query": "Hi", "response": "Hello", "history": [["A", "B"]], "system": "S"},
        [Message("system", "S"), Message("user", "A"), Message("assistant", "B"), USER, ANSWER],
    ),
    ("question/answer", {"question": "Hi", "answer": "Hello", "id": 1}, [USER, ANSWER]),
    ("input/output", {"input": "Hi", "output": "Hello"}, [USER, ANSWER]),
    (
        "instruction/input/output",
        {"instruction": "Hi", "input": "", "output": "Hello", "history": [["A", "B"]]},
        [Message("user", "A"), Message("assistant", "B"), USER, ANSWER],
    ),
    (
        "instruction/input/output",
        {"instruction": "Hi", "output": "Hello", "text": "Hi Hello", "history": None},
        [USER, ANSWER],
    ),
    (
        "instruction/instances",
        {"instruction": "Hi", "instances": [{"output": "Hello"}]},
        [USER, ANSWER],
    ),
    ("prompt/completion turns", {"prompt": [ASKED], "completion": [SAID]}, [USER, ANSWER]),
    (
        "prompt/completion",
        {"system": "S", "prompt": "Hi", "completion": "Hello"},
        [Message("system", "S"), USER, ANSWER],
    ),
]


@pytest.mark.parametrize(("name", "row", "expected"), CHATS)
def test_conversations(name: str, row: Any, expected: list[Message], tmp_path: Path) -> None:
    told: list[Recognised] = []
    path = _write(tmp_path / "a.jsonl", row)
    (found,) = scan_rows(path, tell=told.append)
    assert isinstance(found, Example)
    assert list(found.messages) == expected
    assert load_examples(path) == [found]
    assert (told[0].format.name, told[0].n_rows, told[0].n_fit) == (name, 1, 1)


@pytest.mark.parametrize("tools", ['[{"name": "f"}]', [{"name": "f"}]])
def test_tools_of_other_tools(tools: Any, tmp_path: Path) -> None:
    row = _one({"conversations": [HUMAN, GPT], "tools": tools}, tmp_path)
    assert isinstance(row, Example)
    assert row.tools == ({"type": "function", "function": {"name": "f"}},)


def test_a_task_with_several_instances_is_several_rows(tmp_path: Path) -> None:
    instances = [{"input": "1+2", "output": "3"}, {"input": "", "output": 5}, {"output": "x"}]
    rows = [{"instruction": "Add", "instances": instances}, {"instruction": "Add", "instances": []}]
    path = _write(tmp_path / "a.jsonl", *rows)
    first, bad, last, empty = scan_rows(path)
    assert isinstance(first, Example)
    assert first.messages[0].content == "Add\n\n1+2"
    assert isinstance(bad, DataError)
    assert isinstance(last, Example)
    assert isinstance(empty, DataError)
    assert "`instances`" in empty.message


PREFERENCES: list[Any] = [
    {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
    {"question": "Hi", "chosen": "Hello", "rejected": "Go away"},
    {"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "Go away"},
    {"input": "Hi", "chosen": "Hello", "rejected": "Go away"},
    {"instruction": "Hi", "chosen_response": "Hello", "rejected_response": "Go away"},
    {"prompt": "Hi", "response_chosen": "Hello", "response_rejected": "Go away"},
    {"prompt": "Hi", "text": "Hello", "rejected_text": "Go away"},
    {"prompt": [ASKED], "chosen": [SAID], "rejected": [SAID_WORSE]},
    {"prompt": "Hi", "chosen": [ASKED, SAID], "rejected": [ASKED, SAID_WORSE]},
    {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away", "messages": [ASKED, SAID]},
    {"messages": [ASKED], "chosen": SAID, "rejected": SAID_WORSE},
    {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "Go away"}},
    {"messages": [ASKED, SAID], "rejected_response": "Go away"},
    {"messages": [ASKED, SAID], "rejected_messages": [ASKED, SAID_WORSE]},
    {"chosen": [ASKED, SAID], "rejected": [ASKED, SAID_WORSE]},
    {"chosen_messages": [ASKED, SAID], "rejected_messages": [ASKED, SAID_WORSE]},
    {"chosen": f"{SHORT} Hello", "rejected": f"{SHORT} Go away"},
    {
        "input": {"messages": [ASKED]},
        "preferred_output": [SAID],
        "non_preferred_output": [SAID_WORSE],
    },
]


@pytest.mark.parametrize("row", PREFERENCES)
def test_preferences(row: Any, tmp_path: Path) -> None:
    where = Where(str(tmp_path / "a.jsonl"), 1)
    assert _one(row, tmp_path) == Preference((USER,), (ANSWER,), (WORSE,), where)


def test_a_system_prompt_of_a_preference(tmp_path: Path) -> None:
    row = _one({"system": "S", "question": "Hi", "chosen": "a", "rejected": "b"}, tmp_path)
    assert isinstance(row, Preference)
    assert row.prompt == (Message("system", "S"), USER)


def test_transcripts_share_what_comes_before_the_answers(tmp_path: Path) -> None:
    begin = "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nmore"
    rows = [
        {"chosen": f"{begin}\n\nAssistant: yes", "rejected": f"{begin}\n\nAssistant:"},
        {"chosen": f"{begin}\n\nAssistant: no", "rejected": f"{begin}\n\nAssistant: no"},
        # Here already the first answers differ.
        {"chosen": f"{begin}\n\nAssistant: x", "rejected": "\n\nHuman: A\n\nAssistant: Z"},
        {"chosen": f"{begin}\n\nAssistant: x", "rejected": "\n\nHuman: Y\n\nAssistant: Z"},
    ]
    first, same, early, apart = scan_rows(_write(tmp_path / "a.jsonl", *rows))
    assert isinstance(first, Preference)
    assert [turn.content for turn in first.prompt] == ["A", "B", "C\n\nmore"]
    assert [turn.role for turn in first.prompt] == ["user", "assistant", "user"]
    assert (first.chosen[0].content, first.rejected[0].content) == ("yes", "")
    assert isinstance(same, Preference)
    assert same.chosen == same.rejected
    assert isinstance(early, Preference)
    assert [len(side) for side in (early.prompt, early.chosen, early.rejected)] == [1, 3, 1]
    assert isinstance(apart, DataError)
    assert "share no beginning" in apart.message


JUDGED: list[Any] = [
    {"prompt": "Hi", "completion": "Hello", "label": True},
    {"prompt": "Hi", "completion": "Hello", "label": 1},
    {"prompt": "Hi", "completion": "Hello", "label": "True"},
    {"prompt": "Hi", "completion": "Hello", "kto_tag": "yes"},
    {"prompt": [ASKED], "completion": [SAID], "label": True},
    {"messages": [ASKED, SAID], "label": True},
    {"messages": [ASKED, SAID], "kto_tag": True},
    {"conversations": [HUMAN, GPT], "kto_tag": True},
    {"instruction": "Hi", "input": "", "output": "Hello", "kto_tag": True},
    {"query": "Hi", "response": "Hello", "kto_tag": True},
]


@pytest.mark.parametrize("row", JUDGED)
def test_judged_answers(row: Any, tmp_path: Path) -> None:
    where = Where(str(tmp_path / "a.jsonl"), 1)
    assert _one(row, tmp_path) == Judged((USER,), (ANSWER,), True, where)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "Hi", "label": "greeting"}, "greeting"),
        ({"text": "Hi", "label": 3, "id": 7}, "3"),
        ({"text": "Hi", "label": 3, "label_text": "greeting"}, "greeting"),
        ({"text": "Hi", "label": False}, "false"),
        ({"text": "Hi", "category": "greeting"}, "greeting"),
        ({"text": "Hi", "intent": "greeting"}, "greeting"),
    ],
)
def test_labels(row: Any, expected: str, tmp_path: Path) -> None:
    assert _one(row, tmp_path) == Labelled("Hi", expected, Where(str(tmp_path / "a.jsonl"), 1))


@pytest.mark.parametrize("row", [{"text": "Hi"}, {"text": "Hi", "source": "x", "meta": {}}])
def test_plain_text(row: Any, tmp_path: Path) -> None:
    assert _one(row, tmp_path) == Text("Hi", Where(str(tmp_path / "a.jsonl"), 1))


MAPS: list[tuple[dict[str, str], str]] = [
    ({"user": "a", "assistant": "b"}, "chat"),
    ({"user": "a", "assistant": "b", "system": "c"}, "chat"),
    ({"user": "a", "chosen": "b", "rejected": "c"}, "preference"),
    ({"user": "a", "assistant": "b", "good": "d"}, "judged"),
    ({"text": "a", "label": "b"}, "labelled"),
    ({"text": "a"}, "text"),
]


@pytest.mark.parametrize(("mapping", "kind"), MAPS)
def test_a_map_for_each_kind(mapping: dict[str, str], kind: str, tmp_path: Path) -> None:
    row = _one({"a": "Hi", "b": "Hello", "c": "C", "d": "true"}, tmp_path, mapping)
    assert row.kind == kind


@pytest.mark.parametrize(
    "mapping", [{"user": "a", "chosen": "b"}, {"text": "a", "user": "b", "assistant": "c"}]
)
def test_maps_of_no_kind(mapping: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="do not go together") as caught:
        list(scan_rows(tmp_path / "a.jsonl", mapping))
    assert "`chosen`" in str(caught.value.hint)


UNCLEAR: list[tuple[Any, str, str]] = [
    (
        {"question": "a", "answer": "b", "query": "c", "response": "d"},
        "fit `query/response` and `question/answer`",
        "--map user=query,assistant=response",
    ),
    (
        {"question": "a", "answer": "b", "context": "c"},
        "no known format",
        "--map user=question,assistant=answer",
    ),
    ({"text": "a", "category": "b", "url": "c"}, "no known format", "--map text=text"),
    ({"question_id": 1, "turns": ["a"]}, "questions without answers", "golden"),
    ({"question_id": 1, "choices": []}, "answers without their questions", "question_id"),
    ({"prompt": "a", "instruction_id_list": []}, "questions without answers", "golden"),
    ({"prompt": "a", "answers": []}, "several answers", "chosen"),
    (
        {"question": "a", "answer_matching_behavior": "b", "answer_not_matching_behavior": "c"},
        "two answers",
        "--map user=question,chosen=answer_matching_behavior",
    ),
]


@pytest.mark.parametrize(("row", "message", "hint"), UNCLEAR)
def test_what_is_not_clear_is_asked(row: Any, message: str, hint: str, tmp_path: Path) -> None:
    assert recognise(row) is None
    with pytest.raises(DataError, match=message) as caught:
        load_examples(_write(tmp_path / "a.jsonl", row, row))
    assert hint in str(caught.value.hint)
    assert any(f"{column} = " in line for column in row for line in caught.value.details)
    assert all(len(line) < 2000 for line in caught.value.details)


BAD: list[tuple[Any, Any, str, str]] = [
    ({"conversations": [HUMAN, GPT]}, {"conversations": [HUMAN]}, "no assistant turn", "remove"),
    ({"conversations": [HUMAN, GPT]}, {"conversations": []}, "an empty list", "remove"),
    ({"conversations": [HUMAN, GPT]}, {"conversations": {}}, "must be a list", "from"),
    ({"conversations": [HUMAN, GPT]}, {"conversations": ["x"]}, "must be an object", "role"),
    (
        {"conversations": [HUMAN, GPT]},
        {"conversations": [{"from": "function_call", "value": "{"}]},
        "must be a call of a function",
        "arguments",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "value": "x"}]}, SAID]},
        {"messages": [{"role": "user", "content": [{"type": "image", "value": "x"}]}, SAID]},
        "no text part",
        "text, reasoning and tool_call",
    ),
    (
        {"conversation": [{"human": "Hi", "assistant": "Hello"}]},
        {"conversation": [{"human": "Hi"}]},
        "is no round",
        "assistant",
    ),
    (
        {"query": "Hi", "response": "Hello"},
        {"query": "Hi", "response": "Hello", "history": "x"},
        "`history` must be a list of pairs",
        "earlier rounds",
    ),
    (
        {"prompt": "Hi", "completion": "Hello", "label": True},
        {"prompt": "Hi", "completion": "Hello", "label": "maybe"},
        "must be true or false, but is `maybe`",
        "true for a good answer",
    ),
    (
        {"messages": [ASKED, SAID], "label": True},
        {"messages": [ASKED], "label": True},
        "no answer behind a question",
        "needed",
    ),
    (
        {"prompt": "Hi", "chosen": [SAID], "rejected": [SAID]},
        {"prompt": "Yo", "chosen": [ASKED], "rejected": [SAID]},
        "begins with a turn of the user",
        "may differ only",
    ),
    ({"text": "a", "label": "b"}, {"text": "a", "label": None}, "name of a label", "one label"),
    ({"text": "a"}, {"text": 3}, "`text` must be text", "write"),
    ({"text": "a"}, {"texts": "b"}, "has no `text`", "one format"),
]


@pytest.mark.parametrize(("good", "bad", "message", "hint"), BAD)
def test_bad_rows(good: Any, bad: Any, message: str, hint: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", good, good, bad, good)
    rows = list(scan_rows(path))
    fault = rows[2]
    assert [isinstance(row, DataError) for row in rows] == [False, False, True, False]
    assert isinstance(fault, DataError)
    assert message in fault.message
    assert hint in str(fault.hint)
    assert str(fault.where) == f"{path}:3"


@pytest.mark.parametrize(
    ("row", "objective", "hint"),
    [
        (PREFERENCES[0], "dpo", "--to chat` takes the better answers"),
        (JUDGED[0], "kto", "--to chat` takes the good answers"),
        ({"text": "a", "label": "b"}, "classify", "--to chat` makes the label the answer"),
        ({"text": "a"}, "pretrain", "set `objective: pretrain`"),
    ],
)
def test_other_kinds_are_for_other_objectives(
    row: Any, objective: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=f"`{objective}`.* learn") as caught:
        load_examples(_write(tmp_path / "a.jsonl", row, row))
    assert hint in str(caught.value.hint)
    assert caught.value.details == ()


def test_most_rows_decide_and_the_evidence_is_kept(tmp_path: Path) -> None:
    odd, usual = {"text": "x"}, {"question": "a", "answer": "b", "id": 3}
    rows = [odd, *[usual] * 4, {**usual, "answer": None}, *[usual] * 20, {**usual, "late": 1}]
    told: list[Recognised] = []
    found = list(scan_rows(_write(tmp_path / "a.jsonl", *rows), tell=told.append))
    assert [at for at, row in enumerate(found) if isinstance(row, DataError)] == [0, 5]
    first, later = told
    assert (first.format.name, first.n_rows, first.n_fit) == ("question/answer", 20, 19)
    assert (first.columns, first.unused) == (("question", "answer"), ("text", "id"))
    assert later.unused == ("text", "id", "late")


def test_broken_first_rows_do_not_hide_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" * 25 + '{"question": "a", "answer": "b"}\n')
    found = list(scan_rows(path))
    assert len(found) == 26
    assert isinstance(found[-1], Example)


def test_a_fault_of_the_file_comes_behind_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"question,answer\n1,2\n3,\xff\n")
    rows = scan_rows(path)
    assert isinstance(next(rows), Example)
    with pytest.raises(DataError, match="not UTF-8"):
        next(rows)
