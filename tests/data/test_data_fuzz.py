"""Files made up and files spoiled: never a traceback, and every row is kept or refused."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SHARED
from tunefork.core.errors import DataError, InputError
from tunefork.data.convert.run import Counts, convert
from tunefork.data.convert.targets import TARGETS
from tunefork.data.example import Row
from tunefork.data.formats.known import FORMATS
from tunefork.data.read import scan_records
from tunefork.data.recognise import scan_rows

REAL = (
    "formats/glaive_toolcall_en_demo.json",
    "formats/reason_tool_use_demo_50.jsonl",
    "formats/v1_dpo_demo.jsonl",
    "formats/dpo_en_demo.json",
    "formats/kto_en_demo.json",
    "formats/identity.json",
    "self_instruct/seed_tasks.jsonl",
    "hh_rlhf_harmless_test/harmless-base_test.jsonl",
    "banking77/test.csv",
    "e2e_nlg/devset.csv",
    "mt_bench/question.jsonl",
    "wnut17/raw_stackexchange_comments.txt",
)
_HEAD_BYTES = 8_000
# What often goes wrong with a file, as bytes that are put somewhere into it.
_SPOILT = (
    *(b"\0", b"\xff", b"\n", b"\r\n", b"\r", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":"),
    *(b"null", b"true", b"NaN", b"1e999", b'"\\ud800"', b"\xef\xbb\xbf", b"\xc3", b"\t", b"'"),
    *(b'"role"', b'"from"', b"messages", b"chosen", b"Human:", b"[]", b"{}"),
)


def _read(path: Path) -> list[Row | DataError] | InputError:
    try:
        return list(scan_rows(path))
    except InputError as error:
        return error


def _convert(path: Path, to: str, out: Path) -> Counts | InputError:
    try:
        return convert(path, to, out)
    except InputError as error:
        return error


def _check(path: Path, folder: Path, to: str, end: str) -> int:
    """Read and convert a file: each row is in the new file, or refused. Return how many are in."""
    rows, out = _read(path), folder / f"out{end}"
    counts = _convert(path, to, out)
    if isinstance(rows, InputError):
        assert rows.hint, rows
        assert rows.where, rows
        assert isinstance(counts, InputError)
        assert not out.exists()
        return 0
    faults = [row for row in rows if isinstance(row, DataError)]
    assert all(fault.hint and fault.where for fault in faults)
    assert len(rows) >= sum(1 for _ in scan_records(path))
    if isinstance(counts, InputError):
        assert counts.hint
        assert not out.exists()
        return 0
    assert counts.rows == len(rows) == counts.kept + counts.refused
    assert counts.refused == sum(counts.n_of_reason.values()) >= len(faults)
    written = list(scan_rows(out))
    assert len(written) == counts.written >= counts.kept
    assert not [row for row in written if isinstance(row, DataError)], "what we write, we read"
    return counts.kept


def _spoil(data: bytes, chance: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(found) + 1)
        way = chance.random()
        if way < 0.4:
            found[at:at] = chance.choice(_SPOILT)
        elif way < 0.6:
            del found[at : at + chance.randint(1, 40)]
        elif way < 0.8 and at < len(found):
            found[at] = chance.randrange(256)
        elif way < 0.9:
            found[at:at] = found[at : at + chance.randint(1, 300)]
        else:
            del found[chance.randrange(len(found) // 2, len(found) + 1) :]
    return bytes(found)


def _pack(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    way = chance.random()
    if way < 0.7:
        return data, ""
    if way < 0.85:
        return gzip.compress(data), ".gz"
    return pyarrow.Codec("zstd").compress(data, asbytes=True), ".zst"


def _target(chance: random.Random) -> tuple[str, str]:
    to = chance.choice(sorted(TARGETS))
    ending = TARGETS[to].ending
    if ending == ".jsonl":
        ending = chance.choice([".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz"])
    return to, ending


def _mutate_real_files(n_cases: int, seed: int) -> None:
    chance, n_kept = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        for case in range(n_cases):
            folder = Path(name) / str(case)
            folder.mkdir()
            source = SHARED / chance.choice(REAL)
            data = source.read_bytes()[:_HEAD_BYTES]
            if source.suffix == ".json":  # whole again, so that some cases get past the parser
                data = json.dumps(json.loads(source.read_bytes())[:4], indent=1).encode()
            data, packed = _pack(_spoil(data, chance), chance)
            if packed and chance.random() < 0.3:
                data = _spoil(data, chance)
            path = folder / f"in{source.suffix}{packed}"
            path.write_bytes(data)
            n_kept += _check(path, folder, *_target(chance))
    assert n_kept > n_cases / 2, "the files must not be spoiled so much that nothing is left"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data is not here")
def test_real_files_that_were_spoiled() -> None:
    _mutate_real_files(200, seed=0)


@pytest.mark.soak
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data is not here")
def test_many_real_files_that_were_spoiled() -> None:
    _mutate_real_files(2000, seed=1)


TEXT = st.text(st.characters(), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ROLE = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "function_call"])
CALL = st.fixed_dictionaries(
    {"function": st.fixed_dictionaries({"name": TEXT}, optional={"arguments": JSON}) | JSON},
    optional={"id": JSON, "type": JSON},
)
TURN = st.fixed_dictionaries(
    {"role": ROLE, "content": TEXT | JSON},
    optional={"tool_calls": st.lists(CALL, max_size=2), "weight": JSON, "name": JSON},
) | st.fixed_dictionaries({"from": ROLE, "value": TEXT | JSON})
TRANSCRIPT = st.lists(st.tuples(st.sampled_from(["Human", "Assistant"]), TEXT), max_size=3).map(
    lambda turns: "".join(f"\n\n{role}: {said}" for role, said in turns)
)
VALUE = st.one_of(TEXT, TEXT, st.lists(TURN, max_size=3), TRANSCRIPT, st.booleans(), JSON)


@st.composite
def _rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows with the columns of some format, and now and then others."""
    rows = []
    columns = draw(st.sampled_from(FORMATS)).required
    more = draw(
        st.lists(st.sampled_from(["system", "tools", "history", "label", "id"]), max_size=2)
    )
    for _ in range(draw(st.integers(1, 4))):
        rows.append({name: draw(VALUE) for name in (*columns, *more)})
    return rows


def _check_rows(rows: list[dict[str, Any]], to: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "in.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        _check(path, folder, to, TARGETS[to].ending)


@settings(max_examples=200)
@given(_rows(), st.sampled_from(sorted(TARGETS)))
def test_rows_of_any_shape(rows: list[dict[str, Any]], to: str) -> None:
    _check_rows(rows, to)


@pytest.mark.soak
@settings(max_examples=2000)
@given(_rows(), st.sampled_from(sorted(TARGETS)))
def test_many_rows_of_any_shape(rows: list[dict[str, Any]], to: str) -> None:
    _check_rows(rows, to)


@settings(max_examples=100)
@given(st.sampled_from([".parquet", ".xlsx", ".txt", ".md", ".gz", ".jsonl.zst"]), st.binary())
def test_bytes_of_any_kind(end: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"in{end}"
        path.write_bytes(data)
        _check(path, Path(name), "chat", ".jsonl")
