"""Files that are packed, binary, plain text, or many; and those that are refused."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pytest
from pyarrow import parquet

from tunefork.core.errors import DataError
from tunefork.data import load_examples, read_records, scan_examples, scan_records

ROWS = [{"user": f"Is {at} even?", "assistant": "yes" if at % 2 == 0 else "no"} for at in range(60)]


def _pack(data: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(data)
    packed: bytes = pyarrow.Codec("zstd").compress(data, asbytes=True)
    return packed


def _text(end: str) -> bytes:
    if end == ".json":
        return json.dumps(ROWS, indent=1).encode()
    if end == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    mark = "," if end == ".csv" else "\t"
    return "\n".join([f"user{mark}assistant", *(mark.join(row.values()) for row in ROWS)]).encode()


def _book(path: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("packed", [".gz", ".zst", ".zstd", ".GZ"])
@pytest.mark.parametrize("end", [".jsonl", ".json", ".csv", ".tsv"])
def test_packed_files_read_as_if_they_were_not(end: str, packed: str, tmp_path: Path) -> None:
    plain, small = tmp_path / f"a{end}", tmp_path / f"a{end}{packed}"
    plain.write_bytes(_text(end))
    small.write_bytes(_pack(_text(end), packed.lower()))
    found, wanted = list(read_records(small)), list(read_records(plain))
    assert [row.fields for row in found] == [row.fields for row in wanted] == ROWS
    assert [row.where.line for row in found] == [row.where.line for row in wanted]


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_several_packed_pieces_are_one_file(packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{packed}"
    half = len(_text(".jsonl")) // 2
    path.write_bytes(_pack(_text(".jsonl")[:half], packed) + _pack(_text(".jsonl")[half:], packed))
    assert [row.fields for row in read_records(path)] == ROWS


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("cut", [5, 40, -1])
def test_a_packed_file_that_is_cut_off_is_refused(packed: str, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{packed}"
    path.write_bytes(_pack(_text(".jsonl"), packed)[:cut])
    with pytest.raises(DataError, match="cut off or damaged"):
        list(read_records(path))


def test_the_bytes_say_whether_a_file_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(_text(".jsonl")))
    assert [row.fields for row in read_records(path)] == ROWS


def test_parquet_rows_know_their_number(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), path, row_group_size=7)
    records = list(read_records(path))
    assert [record.fields for record in records] == ROWS
    assert [record.where.line for record in records] == list(range(1, len(ROWS) + 1))
    assert [example.answer for example in load_examples(path)] == [r["assistant"] for r in ROWS]


def test_parquet_values_that_json_has_not(tmp_path: Path) -> None:
    import datetime
    import decimal

    path = tmp_path / "a.parquet"
    day = datetime.date(2024, 7, 26)
    row = {"day": day, "cost": decimal.Decimal("1.50"), "text": b"abc", "inner": {"days": [day]}}
    parquet.write_table(pyarrow.Table.from_pylist([row, {**row, "text": b"\xff"}]), path)
    found, bad = list(scan_records(path))
    assert not isinstance(found, DataError)
    assert found.fields == {
        "day": "2024-07-26",
        "cost": "1.50",
        "text": "abc",
        "inner": {"days": ["2024-07-26"]},
    }
    assert isinstance(bad, DataError)
    assert "a field holds bytes" in bad.message


def test_a_conversation_in_parquet_has_no_keys_that_are_null(tmp_path: Path) -> None:
    call = {"id": None, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "Hi", "tool_calls": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": turns, "tools": None}]), path)
    (example,) = load_examples(path)
    assert example.messages[1].tool_calls == (
        {"type": "function", "function": {"name": "f", "arguments": "{}"}},
    )


def test_workbook(tmp_path: Path) -> None:
    rows: list[list[Any]] = [[], ["user", "assistant", None], ["Hi", 42], [None, None]]
    rows += [["A\nB", 1.5], [True, 3.0]]
    path = _book(tmp_path / "a.xlsx", Rows=rows, Empty=[])
    records = list(read_records(path))
    assert [list(record.fields.values()) for record in records] == [
        ["Hi", "42"],
        ["A\nB", "1.5"],
        ["TRUE", "3"],
    ]
    assert [record.where.line for record in records] == [3, 5, 6]


def test_workbook_faults(tmp_path: Path) -> None:
    path = _book(tmp_path / "a.xlsx", One=[["a"], ["1"]], Two=[["b"], ["2"]])
    with pytest.raises(DataError, match="2 sheets hold rows: `One`, `Two`") as caught:
        list(read_records(path))
    assert "workbook of its own" in str(caught.value.hint)
    path = _book(tmp_path / "b.xlsx", One=[["a"], ["1", "2"], ["3"]])
    bad, good = list(scan_records(path))
    assert isinstance(bad, DataError)
    assert "more fields than the header" in bad.message
    assert not isinstance(good, DataError)
    with pytest.raises(DataError, match="`a` twice"):
        list(read_records(_book(tmp_path / "c.xlsx", One=[["a", "a"], ["1", "2"]])))


@pytest.mark.parametrize("end", [".txt", ".md"])
def test_a_text_is_one_document(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{end}"
    path.write_bytes(b"\r\nOne.\r\n\r\nTwo.\r\n")
    (record,) = read_records(path)
    assert record.fields == {"text": "One.\n\nTwo."}
    assert record.where.line == 2


def test_a_long_text_comes_in_pieces_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    lines = [f"Line {at} of a long story." if at % 9 else "" for at in range(20_000)]
    path.write_text("\n".join(lines))
    records = list(read_records(path))
    assert len(records) > 5
    assert all(len(record.fields["text"]) <= 32_000 for record in records)
    words = " ".join(record.fields["text"] for record in records).split()
    assert words == path.read_text().split()
    for record in records:
        assert record.where.line is not None
        first = record.fields["text"].split("\n")[0]
        assert lines[record.where.line - 1] == first
        assert lines[record.where.line - 2] == "" or record is records[0]


def test_a_long_line_of_text_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 100_000 + "\nshort\n" + "y" * 50_000)
    assert [len(record.fields["text"]) for record in read_records(path)] == [100_000, 5, 50_000]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\n{"user": "Hi", "assistant": "Hello"}\n', "this holds JSON"),
        ("<?xml version='1.0'?>\n<a/>\n", "this is XML"),
        ("\n".join(["Ann\tB-person", "sings\tO", ""] * 10), "CoNLL"),
    ],
)
def test_text_that_is_something_else(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        list(read_records(path))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("a.xml", "XML", "CSV or JSON"),
        ("a.pdf", "PDF", "plain text"),
        ("a.docx", "a document", "plain text"),
        ("a.conll", "CoNLL", "each sentence as one row"),
        ("a.zip", "packed files", "unpack it"),
        ("a.tar.gz", "packed files", "unpack it"),
        ("a.jsonl.bz2", "packed files", "unpack it"),
        ("a.xls", "workbook", ".xlsx"),
        ("a.safetensors", "weights", "model"),
        ("a.parquet.gz", "packed in itself", "unpack it first"),
        ("a.gz", "ending `.gz`", ".jsonl"),
    ],
)
def test_files_of_other_kinds(name: str, message: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_folder_is_all_its_data_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"user": "3", "assistant": "c"}\n')
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "z.csv").write_text("question,answer\n1,a\n2,b\n")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.jsonl").write_text("{")
    examples = load_examples(tmp_path)
    assert [example.answer for example in examples] == ["a", "b", "c"]
    assert [Path(example.where.file).name for example in examples] == ["z.csv", "z.csv", "b.jsonl"]


def test_a_folder_of_texts_alone_is_its_texts(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "picture.png").write_bytes(b"x")
    assert [record.fields["text"] for record in read_records(tmp_path)] == ["one", "two"]


def test_a_bad_file_of_a_folder_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.jsonl").write_text('{"user": "3", "assistant": "c"}\n')
    (tmp_path / "c.csv").write_text("x,y\n1,2\n")
    first, good, last = scan_examples(tmp_path)
    assert isinstance(first, DataError)
    assert "is empty" in first.message
    assert not isinstance(good, DataError)
    assert isinstance(last, DataError)
    assert "the whole file is left out: no known format" in last.message


def test_a_folder_with_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no file that can be read") as caught:
        list(read_records(tmp_path))
    assert ".jsonl" in str(caught.value.hint)


def _peak(path: Path) -> int:
    list(zip(range(5), scan_records(path), strict=False))  # what is loaded once
    tracemalloc.start()
    n_rows = sum(1 for _ in scan_examples(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == 20_000
    return peak


@pytest.mark.parametrize("end", [".jsonl", ".csv", ".jsonl.gz", ".jsonl.zst", ".parquet", ".xlsx"])
def test_reading_takes_no_more_memory_for_more_rows(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{end}"
    rows = [{"user": f"question {at} {'q' * 300}", "assistant": "a" * 300} for at in range(20_000)]
    if end == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2000)
    elif end == ".xlsx":
        cells: list[list[Any]] = [[f"{at}", "a"] for at in range(20_000)]
        _book(path, Rows=[["user", "assistant"], *cells])
    elif end == ".csv":
        lines = [f"{row['user']},{row['assistant']}" for row in rows]
        path.write_text("\n".join(["user,assistant", *lines]))
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(_pack(data, path.suffix) if end != ".jsonl" else data)
    # All rows as objects take some 14 MB; the texts of a workbook are read whole by its library.
    assert _peak(path) < (12e6 if end == ".xlsx" else 6e6)
