"""Reading files: every format, true line numbers, and one clear message for each fault."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefork.core.errors import DataError
from tunefork.data import Example, Record, load_examples, read_records, scan_records

GOOD = b'{"user": "Hi", "assistant": "Hello"}\n'


def _lines(records: list[Record]) -> list[int | None]:
    return [record.where.line for record in records]


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.jsonl", '{"q": "é", "a": "1"}\n\n{"q": "x", "a": "2"}', [1, 3]),
        ("a.ndjson", '{"q": "é", "a": "1"}\n{"q": "x", "a": "2"}\n', [1, 2]),
        ("a.json", '[\n {"q": "é", "a": "1"},\n\n {"q": "x",\n "a": "2"}\n]\n', [2, 4]),
        (
            "a.JSON",
            '{"n": {"x": [3]}, "rows"\n:[{"q": "é", "a": "1"}\n,{"q": "x", "a": "2"}]}',
            [2, 3],
        ),
        ("a.csv", 'q,a\né,1\n\nx,"2"\n', [2, 4]),
        ("a.tsv", "q\ta\né\t1\nx\t2", [2, 3]),
    ],
)
def test_formats_and_lines(
    name: str, text: str, lines: list[int], end: str, bom: bytes, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(bom + text.replace("\n", end).encode())
    records = list(read_records(path))
    assert [record.fields for record in records] == [{"q": "é", "a": "1"}, {"q": "x", "a": "2"}]
    assert _lines(records) == lines
    assert {record.where.file for record in records} == {str(path)}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"q": "é🐈", "a": "1"}\n\n{"q": "x", "a": "2"}'),
        ("a.json", '[{"q": "é🐈", "a": "1"},\n\n{"q": "x", "a": "2"}]'),
        ("a.csv", "q,a\né🐈,1\nx,2"),
        ("a.tsv", "q\ta\né🐈\t1\nx\t2\n"),
    ],
)
def test_utf16_that_says_so_is_read(
    name: str, text: str, end: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    mark = "" if encoding == "utf-16" else "\ufeff"
    path.write_bytes((mark + text.replace("\n", end)).encode(encoding))
    records = list(read_records(path))
    assert [record.fields for record in records] == [{"q": "é🐈", "a": "1"}, {"q": "x", "a": "2"}]
    assert [record.where.line for record in records] == ([2, 3] if "sv" in name else [1, 3])


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("above", ["", "\r\n\n"])
def test_the_header_shows_what_separates(
    mark: str, suffix: str, above: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    rows = [["question", "answer", "topic"], ["Hi, you; there", "a|b\tc", "x"], ["1,5", "2;5", ""]]
    quoted = [mark.join(f'"{field}"' for field in row) for row in rows[1:]]
    path.write_bytes((above + "\n".join([mark.join(rows[0]), *quoted])).encode())
    found = [list(record.fields.values()) for record in read_records(path)]
    assert found == rows[1:]
    first = 2 + above.count("\n")
    assert [record.where.line for record in read_records(path)] == [first, first + 1]


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "question\nHi; you\n", ["question"]),
        ("a.csv", "question (a;b),answer\n1,2\n", ["question (a;b)", "answer"]),
        ("a.csv", '"a;b;c",d\n1,2\n', ["a;b;c", "d"]),
        ("a.csv", "a;b;a\n1;2;3\n", None),
        ("a.tsv", "a, b\tc\n1\t2\n", ["a, b", "c"]),
    ],
)
def test_what_else_a_header_may_hold(
    name: str, text: str, columns: list[str] | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = [list(record.fields) for record in read_records(path)]
    assert found == [columns or ["a;b;a"]]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_long_fields_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    text = "naps " * 200_000
    mark = {".csv": ",", ".tsv": "\t"}.get(suffix)
    row = json.dumps({"q": text, "a": "1"}) if mark is None else f"q{mark}a\n{text}{mark}1"
    path.write_text(row + "\n")
    assert [record.fields for record in read_records(path)] == [{"q": text, "a": "1"}]


def test_fields_over_several_lines_keep_true_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,a\n"one\ntwo, ""three""\n",1\nx,2\n"y\n",3\n')
    records = list(read_records(path))
    assert [record.fields["q"] for record in records] == ['one\ntwo, "three"\n', "x", "y\n"]
    assert _lines(records) == [2, 5, 6]


def test_empty_list_beside_rows_is_ambiguous_but_an_empty_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [], "b": [{"q": "x"}]}')
    with pytest.raises(DataError, match="2 lists"):
        list(read_records(path))


def test_scan_goes_on_behind_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"[1]\n{\n" + GOOD)
    found = list(scan_records(path))
    assert [isinstance(row, DataError) for row in found] == [False, True, True, False]


BAD_FILES: list[tuple[str, bytes, int | None, str, str]] = [
    # file name, bytes, line, a piece of the message, a piece of the hint
    ("a.jsonl", b"", None, "is empty", "at least one row"),
    ("a.csv", b"", None, "is empty", "at least one row"),
    ("a.json", b"", None, "is empty", "at least one row"),
    ("a.json", b"[]", None, "holds no rows", "at least one row"),
    ("a.jsonl", b"\n \n", None, "holds no rows", "at least one row"),
    ("a.csv", b"user,assistant\n", None, "holds no rows", "at least one row"),
    ("a.jsonl", GOOD * 6 + b'{"user": "Hi" "assistant": 1}\n', 7, "column 15", "correct this line"),
    ("a.jsonl", GOOD + b'{"user": "Hi"', 2, "broken JSON", "correct this line"),
    ("a.jsonl", b'{\n"user": "Hi"\n}\n', 1, "broken JSON", "`.json`"),
    ("a.jsonl", b'[{"user": "Hi"}]\n', 1, "a list", "`.json`"),
    ("a.jsonl", GOOD + b'"Hi"\n', 2, "text", "one object on each line"),
    ("a.jsonl", GOOD + b"null\n", 2, "null", "one object on each line"),
    ("a.jsonl", GOOD + b"true\n", 2, "true", "one object on each line"),
    ("a.jsonl", GOOD + b"17\n", 2, "a number", "one object on each line"),
    ("a.jsonl", GOOD + b'{"a": ' + b"9" * 5000 + b"}\n", 2, "broken JSON", "as text"),
    ("a.jsonl", b'{"a":' * 100_000, 1, "nested too deeply", "flatten"),
    ("a.jsonl", GOOD + 'é{"a": "ü"}'.encode("latin-1"), 2, "byte 0xe9 at byte 37", "iconv"),
    ("a.csv", b"user,assistant\nHi,\xff\n", 2, "byte 0xff at byte 18", "iconv"),
    ("a.jsonl", GOOD.decode().encode("utf-16") + b"\x00\xd8", 2, "begins as UTF-16", "iconv"),
    ("a.jsonl", "\n\0x".encode("utf-16"), 2, "a zero character", "save it as UTF-8"),
    ("a.jsonl", GOOD.decode().encode("utf-32"), 1, "a zero character", "save it as UTF-8"),
    ("a.jsonl", GOOD.decode().encode("utf-16-le"), 1, "zero byte", "UTF-16"),
    ("a.csv", b"user,assistant\nHi,a\0b\n", 2, "zero byte (at byte 19)", "binary"),
    ("a.json", GOOD + GOOD, 2, "Extra data", "`.jsonl`"),
    ("a.json", b'[{"user": "Hi"},\n {"user" "x"}]', 2, "column 10", "correct this line"),
    ("a.json", b'{"user": "Hi"}', None, "0 lists", "a list of objects"),
    ("a.json", b"3", None, "a number", "a list of objects"),
    ("a.json", b'[{"a": 1},\n3]', 2, "a number", "must be an object"),
    ("a.csv", b"user,assistant\nHi,Hello\nHi\n", 3, "1 fields, the header has 2", "separator"),
    ("a.csv", b"user,assistant\nHi,Hello, you\n", 2, "3 fields, the header has 2", "separator"),
    ("a.csv", b'user,assistant\nHi,A\nHi,"open\nx,y\n', 3, "unexpected end", "double its quotes"),
    ("a.csv", b"user,user\nHi,Hello\n", 1, "`user` twice", "once"),
    ("a.csv", b"user;assistant\nHi;Hello;x\n", 2, "3 fields, the header has 2", "separator"),
    ("a.parquet", b"PAR1", None, "no sound Parquet file", "fetch or write the file again"),
    ("a.xlsx", b"PK\3\4", None, "no sound workbook", "export the sheet as CSV"),
    ("a.jsonl.gz", b"\x1f\x8b\x08", None, "cut off or damaged", "pack the file again"),
    ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", None, "cut off or damaged", "pack the file again"),
    ("a.unknown", b"x", None, "`.unknown`", ".jsonl, .ndjson, .json, .csv, .tsv"),
    ("rows", b"x", None, "without an ending", ".jsonl, .ndjson, .json, .csv, .tsv"),
]


@pytest.mark.parametrize(("name", "data", "line", "message", "hint"), BAD_FILES)
def test_bad_file(
    name: str, data: bytes, line: int | None, message: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        list(read_records(path))
    error = caught.value
    assert message in error.message
    assert error.hint is not None
    assert hint in error.hint
    assert error.where is not None
    assert (error.where.file, error.where.line) == (str(path), line)
    assert error.exit_code == 1


def test_missing_file_suggests_a_near_name(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(GOOD)
    with pytest.raises(DataError, match="no such file") as caught:
        list(read_records(tmp_path / "trian.jsonl"))
    assert caught.value.hint == "did you mean `train.jsonl`?"
    with pytest.raises(DataError) as caught:
        list(read_records(tmp_path / "other" / "train.jsonl"))
    assert "no folder" in str(caught.value.hint)


def test_name_too_long_for_the_system(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        list(read_records(tmp_path / ("x" * 5000 + ".jsonl")))
    assert caught.value.hint


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="Permission denied") as caught:
        list(read_records(path))
    assert caught.value.hint


def _only_data_errors(name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        problem: DataError | None = None
        examples: list[Example] = []
        try:
            examples = load_examples(path)
        except DataError as error:
            problem = error
    assert examples or (problem is not None and problem.hint and problem.where)


ENDINGS = st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv"])


@settings(max_examples=300)
@given(ENDINGS, st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_data_errors(name: str, data: bytes) -> None:
    _only_data_errors(name, data)


SEED = (
    b'{"messages": [{"role": "user", "content": "Hi \\ud83d"}, {"role": "assistant", "content": '
    b'[{"type": "text", "text": "x"}], "weight": 1, "tool_calls": null}], "tools": []}\n'
)


@settings(max_examples=400)
@given(
    ENDINGS,
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(1, 3),
)
def test_mutated_rows_raise_nothing_but_data_errors(
    name: str, changes: list[tuple[int, int]], copies: int
) -> None:
    data = bytearray((GOOD + SEED.replace(b"\\ud83d", b"")) * copies)
    for at, value in changes:
        data[at % len(data)] = value
    _only_data_errors(name, bytes(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]) | JSON, "content": JSON},
    optional={"weight": JSON, "tool_calls": JSON, "name": JSON, "reasoning": JSON},
)
ROW = st.dictionaries(st.sampled_from(["user", "assistant", "system"]), JSON) | (
    st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=4) | JSON, "tools": JSON})
)


@settings(max_examples=300)
@given(st.lists(ROW, min_size=1, max_size=4))
def test_rows_of_any_shape_raise_nothing_but_data_errors(rows: list[Any]) -> None:
    _only_data_errors("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    _only_data_errors("a.json", json.dumps(rows, indent=1).encode())


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=150)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), st.booleans())
def test_rows_in_are_rows_out(pairs: list[tuple[str, str]], escaped: bool) -> None:
    rows = [{"user": question, "assistant": answer} for question, answer in pairs]
    with tempfile.TemporaryDirectory() as folder:
        jsonl, listed = Path(folder) / "a.jsonl", Path(folder) / "a.json"
        text = "".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in rows)
        jsonl.write_bytes(text.encode())
        listed.write_bytes(json.dumps(rows, ensure_ascii=escaped, indent=2).encode())
        for path in (jsonl, listed):
            examples = load_examples(path)
            assert [(row.messages[0].content, row.answer) for row in examples] == pairs
        assert [row.where.line for row in load_examples(jsonl)] == list(range(1, len(rows) + 1))
