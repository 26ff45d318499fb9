"""Converting: what one format says, another says too; what it cannot hold is counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tunefork.core.errors import DataError, UsageError, Where
from tunefork.core.events import Event, Progress
from tunefork.data.convert.run import Counts, convert
from tunefork.data.convert.targets import TARGETS
from tunefork.data.example import Row
from tunefork.data.recognise import scan_rows

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
CHAT: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "system", "content": "Be kind"},
            {"role": "user", "content": 'Hi\r\n, "you"'},
            {"role": "assistant", "content": "Hello é🐈"},
        ]
    },
    {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}]},
]
TOOLS: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Hi", "name": "Ann"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Hello", "reasoning_content": "Greet."},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": {"a": [1]}}}}],
}
PAIRS: list[dict[str, Any]] = [
    {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
    {"prompt": "A", "chosen": "B", "rejected": "C", "system": "S"},
]
GOOD: list[dict[str, Any]] = [
    {"prompt": "Hi", "completion": "Hello", "label": True},
    {"prompt": "A", "completion": "B", "label": False},
]
LABELS = [{"text": "Hi, you", "label": "greeting"}, {"text": "Bye", "label": "parting"}]
LISTED = [{"text": "My card?", "labels": ["card", "post"]}, {"text": "Hm.", "labels": []}]
MIXED: list[dict[str, Any]] = [*LABELS, {"text": "Bye, you", "label": ["greeting", "parting"]}]
TEXTS = [{"text": "Once\nupon"}, {"text": '"a", time'}]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _rows(path: Path) -> list[Row]:
    """All rows, without their places."""
    found = []
    for row in scan_rows(path):
        assert not isinstance(row, DataError), row
        found.append(dataclasses.replace(row, where=Where("")))
    return found


def _balanced(counts: Counts) -> bool:
    return (
        counts.rows
        == counts.kept + counts.refused
        == counts.kept + sum(counts.n_of_reason.values())
    )


SAME: list[tuple[list[dict[str, Any]], str, str]] = [
    *((CHAT, to, end) for to in ("chat", "sharegpt", "alpaca") for end in (".jsonl", ".json")),
    *((CHAT, to, ".parquet") for to in ("chat", "sharegpt", "alpaca", "parquet")),
    *((CHAT, "csv", end) for end in (".csv",)),
    *((CHAT, "chat", end) for end in (".csv", ".tsv", ".csv.gz", ".jsonl.gz", ".json.gz")),
    ([TOOLS, *CHAT], "chat", ".jsonl"),
    ([TOOLS, *CHAT], "chat", ".parquet"),
    ([TOOLS, *CHAT], "parquet", ".parquet"),
    *((PAIRS, to, ".jsonl") for to in ("preference", "openai-preference")),
    *((PAIRS, to, ".parquet") for to in ("preference", "openai-preference", "parquet")),
    (PAIRS, "csv", ".csv"),
    (PAIRS, "preference", ".tsv"),
    (GOOD, "kto", ".jsonl"),
    (GOOD, "kto", ".parquet"),
    (GOOD, "kto", ".csv"),
    (GOOD, "parquet", ".parquet"),
    *((LABELS, "labels", end) for end in (".jsonl", ".csv", ".parquet", ".json")),
    (LABELS, "csv", ".csv"),
    *((LISTED, to, end) for to, end in (("labels", ".jsonl"), ("labels", ".parquet"))),
    (LISTED, "parquet", ".parquet"),
    (MIXED, "labels", ".jsonl"),
    *((TEXTS, "text", end) for end in (".jsonl", ".csv", ".parquet", ".jsonl.gz")),
]


@pytest.mark.parametrize(("rows", "to", "end"), SAME)
def test_there_and_back_is_the_same(
    rows: list[dict[str, Any]], to: str, end: str, tmp_path: Path
) -> None:
    path, out = _write(tmp_path / "a.jsonl", rows), tmp_path / f"b{end}"
    counts = convert(path, to, out)
    assert _balanced(counts)
    assert (counts.rows, counts.kept, counts.written) == (len(rows),) * 3
    assert _rows(out) == _rows(path)
    assert counts.lost == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["a.jsonl", out.name])


@pytest.mark.parametrize("to", TARGETS)
def test_every_kind_into_every_format_counts_every_row(to: str, tmp_path: Path) -> None:
    for at, rows in enumerate([[TOOLS, *CHAT], PAIRS, GOOD, LABELS, LISTED, TEXTS]):
        path = _write(tmp_path / f"{at}.jsonl", rows)
        out = tmp_path / f"{at}.{to}{TARGETS[to].ending}"
        try:
            counts = convert(path, to, out)
        except DataError:
            with pytest.raises(DataError, match=f"none of the {len(rows)} rows"):
                convert(path, to, out)
            assert not out.exists()
            continue
        assert _balanced(counts)
        assert counts.rows == len(rows)
        assert len(_rows(out)) == counts.written


def test_what_a_format_cannot_hold_is_said_with_counts(tmp_path: Path) -> None:
    plain = {"messages": [*CHAT[1]["messages"][:1], {**CHAT[1]["messages"][1], "weight": 0}]}
    path = _write(tmp_path / "a.jsonl", [TOOLS, *CHAT, {"messages": []}, plain])
    counts = convert(path, "prompt-completion", tmp_path / "b.jsonl")
    assert (counts.rows, counts.kept, counts.refused) == (5, 2, 3)
    assert counts.n_of_reason == {
        "tools; `--to chat` or `sharegpt` hold them": 1,
        "a system turn; `--to chat` holds it": 1,
        "`messages` is an empty list": 1,
    }
    assert counts.reasons["`messages` is an empty list"] == [f"{path}:4"]
    assert counts.lost == {"`weight`": 1}
    rows = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert rows == [{"prompt": "", "completion": "x"}] * 2


def test_preferences_become_other_kinds(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", PAIRS)
    chosen = convert(path, "chat", tmp_path / "chat.jsonl")
    assert chosen.lost == {"the rejected answer": 2}
    found = [row.answer for row in _rows(tmp_path / "chat.jsonl") if row.kind == "chat"]  # type: ignore[union-attr]
    assert found == ["Hello", "B"]
    both = convert(path, "kto", tmp_path / "kto.jsonl")
    assert (both.rows, both.kept, both.written) == (2, 2, 4)
    lines = (tmp_path / "kto.jsonl").read_text().splitlines()
    assert [json.loads(line)["label"] for line in lines] == [True, False] * 2


def test_only_good_answers_become_conversations(tmp_path: Path) -> None:
    counts = convert(_write(tmp_path / "a.jsonl", GOOD), "chat", tmp_path / "b.jsonl")
    assert (counts.kept, counts.refused) == (1, 1)
    assert "judged bad" in next(iter(counts.reasons))


def test_labels_become_answers(tmp_path: Path) -> None:
    convert(_write(tmp_path / "a.jsonl", LABELS), "chat", tmp_path / "b.jsonl")
    first = json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])
    assert first["messages"][1] == {"role": "assistant", "content": "greeting"}
    listed = convert(_write(tmp_path / "c.jsonl", LISTED), "chat", tmp_path / "d.jsonl")
    assert (listed.kept, listed.refused) == (1, 1)
    assert "it has no label" in next(iter(listed.reasons))


@pytest.mark.parametrize("end", [".csv", ".parquet"])
def test_a_table_has_one_kind_of_label(end: str, tmp_path: Path) -> None:
    path, out = _write(tmp_path / "a.jsonl", MIXED), tmp_path / f"b{end}"
    counts = convert(path, "labels", out)
    assert (counts.kept, counts.refused) == (2, 1)
    assert _rows(out) == _rows(path)[:2]
    other = convert(_write(tmp_path / "c.jsonl", MIXED[::-1]), "labels", tmp_path / "d.parquet")
    assert (other.kept, other.refused) == (1, 2)


@pytest.mark.parametrize("text", ["\r", "a\rb", "a\r\nb", "\n"])
def test_a_table_holds_any_line_break(text: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", [{"text": f"x{text}", "label": f"{text}y"}, *LABELS])
    convert(path, "labels", tmp_path / "b.csv")
    assert _rows(tmp_path / "b.csv") == _rows(path)


def test_sharegpt_says_what_it_loses(tmp_path: Path) -> None:
    counts = convert(_write(tmp_path / "a.jsonl", [TOOLS]), "sharegpt", tmp_path / "b.jsonl")
    assert set(counts.lost) == {
        "`weight`",
        "`reasoning_content`",
        "`name`",
        "the `id` of tool calls",
    }
    (row,) = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [turn["from"] for turn in row["conversations"]] == [
        "human",
        "function_call",
        "observation",
        "gpt",
    ]


def test_tables_refuse_what_no_table_holds(tmp_path: Path) -> None:
    zero = {"text": "a\0b"}
    counts = convert(_write(tmp_path / "a.jsonl", [zero, *TEXTS]), "text", tmp_path / "b.csv")
    assert (counts.kept, counts.refused) == (2, 1)
    long = {"instruction": "a", "output": "b", "history": [["c", "d"]]}
    rows: list[dict[str, Any]] = [{"instruction": "a", "output": "b"}, long]
    counts = convert(_write(tmp_path / "c.jsonl", rows), "alpaca", tmp_path / "d.csv")
    assert (counts.kept, counts.refused) == (1, 1)
    assert "a list" in next(iter(counts.reasons))


def test_parquet_refuses_calls_that_it_would_cut(tmp_path: Path) -> None:
    odd = json.loads(json.dumps(TOOLS))
    odd["messages"][1]["tool_calls"][0]["index"] = 0
    half = json.loads(json.dumps(TOOLS))
    half["messages"][1]["tool_calls"][0]["function"]["arguments"] = "\ud83d"
    path = _write(tmp_path / "a.jsonl", [TOOLS, odd, half])
    counts = convert(path, "chat", tmp_path / "b.parquet")
    assert (counts.kept, counts.refused) == (1, 2)
    assert convert(path, "chat", tmp_path / "b.jsonl").kept == 3
    assert _rows(tmp_path / "b.jsonl") == _rows(path)


def test_a_folder_of_several_formats(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    _write(folder / "a.jsonl", PAIRS)
    _write(folder / "b.jsonl", CHAT)
    (folder / "c.csv").write_text("x,y\n1,2\n")
    (folder / "README.md").write_text("about")
    counts = convert(folder, "chat", tmp_path / "out.jsonl")
    assert (counts.rows, counts.kept, counts.refused) == (5, 4, 1)
    assert [Path(name).name for name in counts.left] == ["README.md"]
    assert "the whole file is left out" in next(iter(counts.reasons))
    counts = convert(folder, "csv", tmp_path / "out.csv")
    assert (counts.rows, counts.kept) == (5, 2)
    assert any("other columns" in reason for reason in counts.reasons)


def test_strict_writes_all_or_nothing(tmp_path: Path) -> None:
    path, out = _write(tmp_path / "a.jsonl", [*CHAT, {"messages": 3}]), tmp_path / "b.jsonl"
    with pytest.raises(DataError, match="must be a list") as caught:
        convert(path, "chat", out, is_strict=True)
    assert str(caught.value.where) == f"{path}:3"
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_fault_of_the_file_leaves_the_old_one(tmp_path: Path) -> None:
    path, out = tmp_path / "a.csv", tmp_path / "b.jsonl"
    path.write_bytes(b"question,answer\n" + b"1,2\n" * 50 + b"3,\xff\n")
    out.write_text("old")
    with pytest.raises(DataError, match="not UTF-8"):
        convert(path, "chat", out)
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("to", "name"), [("csv", "b.jsonl"), ("parquet", "b.csv"), ("chat", "b.txt"), ("chat", "b")]
)
def test_names_that_do_not_go_with_the_format(to: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        convert(_write(tmp_path / "a.jsonl", CHAT), to, tmp_path / name)
    assert caught.value.hint


def test_long_files_tell_how_far_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = json.dumps({"prompt": "Hi " * 300, "completion": "x"}) + "\n"
    path.write_text(line * 10_000)
    told: list[Event] = []
    convert(path, "chat", tmp_path / "b.jsonl", sink=told.append)
    assert [event.done for event in told if isinstance(event, Progress)] == [
        2000,
        4000,
        6000,
        8000,
        10_000,
    ]
    assert all(event.total == 10_000 for event in told if isinstance(event, Progress))


REAL = [
    ("formats/dpo_en_demo.json", "openai-preference"),
    ("formats/kto_en_demo.json", "kto"),
    ("formats/reason_tool_use_demo_50.jsonl", "chat"),
    ("formats/reason_tool_use_demo_50.jsonl", "parquet"),
    ("formats/glaive_toolcall_en_demo.json", "sharegpt"),
    ("formats/alpaca_en_demo.json", "alpaca"),
    ("hh_rlhf_harmless_test/harmless-base_test.jsonl.gz", "preference"),
    ("banking77/test.csv", "csv"),
    ("self_instruct/seed_tasks.jsonl", "prompt-completion"),
]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data is not here")
@pytest.mark.parametrize(("name", "to"), REAL)
def test_real_files_lose_no_row(name: str, to: str, tmp_path: Path) -> None:
    out = tmp_path / f"b{TARGETS[to].ending}"
    counts = convert(SHARED / name, to, out)
    assert counts.refused == 0
    assert _rows(out) == _rows(SHARED / name)
