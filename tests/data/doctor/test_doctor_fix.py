"""`--fix` and `select`: what changes, that all of it can be undone, and that no row gets lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.doctor.made import context, good_pairs, make_rows, write_pairs
from tunefork.core.errors import DataError, InputError, RunError, UsageError
from tunefork.data.doctor import (
    changes_path,
    examine,
    fix_file,
    read_rows,
    select_rows,
    undo,
    write_fixed,
    write_page,
)
from tunefork.data.doctor.page import render_page
from tunefork.data.read import read_records

MESSY = [
    {"user": "Open?", "assistant": "Yes. Mail joe@example.org  ", "id": 1},
    {"user": "open", "assistant": "Yes, mail ann@example.org", "id": 2},
    {"user": "", "assistant": "x", "tags": ["cafÃ©", {"deep": " y "}]},
    {"user": "Where?", "assistant": "In the cafÃ©.", "tags": ["cafÃ©", {"deep": " y "}]},
    {"user": "Who?"},
]


def write_lines(path: Path, rows: list[Any]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_safe_remedies(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [*MESSY, "{broken"])
    fixed = fix_file(path)
    assert fixed.rows == [
        {"user": "Open?", "assistant": "Yes. Mail [EMAIL]", "id": 1},
        {"user": "Where?", "assistant": "In the café.", "tags": ["café", {"deep": "y"}]},
    ]
    assert (fixed.total, fixed.kept, fixed.dropped) == (6, 2, 4)
    assert fixed.counts["unreadable"] == 2
    assert fixed.counts["duplicate.exact"] == 1


def test_a_fixed_file_can_be_undone_and_is_fixed_already(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [*MESSY, "{broken"])
    out = tmp_path / "out.jsonl"
    write_fixed(fix_file(path), out, path)
    assert undo(out) == [*MESSY, "{broken"]
    assert changes_path(out) == tmp_path / "out.jsonl.changes.jsonl"
    assert changes_path(out).stat().st_mode & 0o077 == 0
    assert fix_file(out).changes == []
    write_fixed(fix_file(path), out, path)  # what is ours may be written again


def test_what_is_not_ours_is_not_written_over(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", MESSY)
    other = write_lines(tmp_path / "other.jsonl", [])
    fixed = fix_file(path)
    for out in (path, other, tmp_path / "out.csv"):
        before = out.read_bytes() if out.exists() else None
        with pytest.raises(UsageError):
            write_fixed(fixed, out, path)
        assert (out.read_bytes() if out.exists() else None) == before


def test_both_files_are_written_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "in.jsonl", MESSY)
    out = tmp_path / "out.jsonl"
    fixed = fix_file(path)
    replace = Path.replace

    def refused(self: Path, target: Path) -> Path:
        if Path(target) == out:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(RunError):
        write_fixed(fixed, out, path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.jsonl"]


def test_columns_of_a_table_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("question,reply,kind\nHow?,So. ,a\nhow,so,b\nWhy?,Thus,c\n", encoding="utf-8")
    fixed = fix_file(path, {"user": "question", "assistant": "reply"})
    assert fixed.rows == [
        {"question": "How?", "reply": "So.", "kind": "a"},
        {"question": "Why?", "reply": "Thus", "kind": "c"},
    ]


def test_a_record_of_another_file_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", MESSY)
    out = tmp_path / "out.jsonl"
    write_fixed(fix_file(path), out, path)
    out.write_text("", encoding="utf-8")
    with pytest.raises(RunError):
        undo(out)


_TEXTS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "joe@example.org",
        "cafÃ©",
        "Yes.",
        "yes",
        "4111 1111 1111 1111",
        "{",
        "```",
        "\ud800",
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
_ROWS = st.lists(
    st.fixed_dictionaries({"user": _TEXTS, "assistant": _TEXTS}, optional={"more": _VALUES})
    | st.dictionaries(st.sampled_from(["user", "assistant", "messages"]), _VALUES)
    | st.sampled_from(["{broken", "[]", "3"]),
    min_size=1,
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_ROWS)
def test_any_rows_are_kept_or_dropped_and_come_back(tmp_path: Path, rows: list[Any]) -> None:
    path = write_lines(tmp_path / "in.jsonl", rows)
    try:
        read = read_rows(path)
    except InputError:  # nothing of it can be understood
        return
    assert len(read.rows) + len(read.faults) == len(rows)
    examine(context([(row.prompt, row.answer) for row in read.rows]))
    fixed = fix_file(path)
    assert fixed.kept + fixed.dropped == fixed.total == len(rows)
    out = tmp_path / "out.jsonl"
    write_fixed(fixed, out, path)
    assert undo(out) == rows


@settings(max_examples=60)
@given(st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=30))
def test_any_texts_can_be_examined(pairs: list[tuple[str, str]]) -> None:
    pairs = [(a.replace("\ud800", "?"), b.replace("\ud800", "?")) for a, b in pairs]
    for found in examine(context(pairs * 3, against=[a for a, _ in pairs], golden=["x"])):
        assert set(found.rows) <= set(range(1, 3 * len(pairs) + 1))
    assert "<script>alert" not in render_page("x", 1, "y", examine(context(pairs)), "z")


def test_selection_is_clean_diverse_and_always_the_same(tmp_path: Path) -> None:
    pairs = good_pairs(60)
    pairs = [
        *pairs,
        *[(f"{asked} Please", said) for asked, said in pairs],
        ("", ""),
        ("x", "a@b.org"),
    ]
    read = read_rows(write_pairs(tmp_path / "in.jsonl", pairs))
    findings = examine(context(pairs))
    chosen = select_rows(read.rows, findings, 20)
    assert chosen == select_rows(read.rows, findings, 20)
    assert len(chosen.numbers) == 20
    assert not {121, 122} & set(chosen.numbers)
    assert len({(number - 1) % 60 for number in chosen.numbers}) == 20  # no row and its echo
    every = select_rows(read.rows, findings, 1000)
    assert len(every.numbers) == every.n_clean
    assert every.coverage == pytest.approx(1.0, abs=1e-3)


def test_a_selection_covers_more_than_the_first_rows() -> None:
    kinds = [good_pairs(1)[0], ("Is the shop open?", "Yes, until six."), ("Who are you?", "Ann.")]
    rows = make_rows([(f"{asked} {at}", said) for asked, said in kinds for at in range(20)])
    assert {(number - 1) // 20 for number in select_rows(rows, [], 3).numbers} == {0, 1, 2}


def test_a_page_is_whole_and_takes_hostile_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> joe@example.org"
    pairs = [*good_pairs(), (hostile, ""), ("Next?", hostile)]
    path = tmp_path / "page.html"
    write_page(
        path, title=hostile, rows=42, form="x", findings=examine(context(pairs)), command="c"
    )
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "joe@" not in text.replace(hostile, "").split("<section", 1)[1]
    assert "http" not in text.split("</style>")[1]
    assert text.rstrip().endswith("</html>")


def test_a_file_that_nobody_understands(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [{"a": 1}])
    with pytest.raises(DataError):
        fix_file(path)
    assert len(list(read_records(path))) == 1


def test_what_the_model_is_measured_by_is_dropped(tmp_path: Path) -> None:
    rows = [{"user": f"Question {at}?", "assistant": "Yes."} for at in range(4)]
    path = write_lines(tmp_path / "in.jsonl", rows)
    measured = {"leak.validation": ["question 1"], "leak.golden": ["Question 3!"]}
    fixed = fix_file(path, measured=measured)
    assert fixed.rows == [rows[0], rows[2]]
    assert fixed.counts == {"leak.validation": 1, "leak.golden": 1}
    out = tmp_path / "out.jsonl"
    write_fixed(fixed, out, path)
    assert undo(out) == rows
