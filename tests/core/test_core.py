"""Errors, files, hashes and units."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.core import errors, files
from tunefork.core.errors import DataError, RunError, TuneforkError, Where, did_you_mean
from tunefork.core.files import new_file, new_folder, read_json, write_json, write_text
from tunefork.core.hashing import canonical_json, hash_bytes, hash_file, hash_folder, hash_json
from tunefork.core.units import bytes_text, count_text, duration_text

_CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, TuneforkError)
]


@pytest.mark.parametrize("kind", _CLASSES)
def test_an_error_survives_another_process(kind: type[TuneforkError]) -> None:
    error = kind("wrong", where=Where("a.txt", 3), hint="mend it", details=("also b",))
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == str(error) == "a.txt:3: wrong\nalso b\nhint: mend it"
        assert again.as_dict() == error.as_dict()
        assert again.exit_code == kind.exit_code


def test_a_busy_error_keeps_when_to_ask_again() -> None:
    busy = errors.Busy("full", retry_after_s=7.5)
    assert pickle.loads(pickle.dumps(busy)).retry_after_s == 7.5
    assert copy.copy(busy).retry_after_s == 7.5


def test_an_error_as_data() -> None:
    assert DataError("wrong").as_dict() == {
        "code": "data",
        "message": "wrong",
        "where": None,
        "hint": None,
    }
    found = DataError("wrong", where=Path("a.txt"), hint="mend it", details=("b",)).as_dict()
    assert found["where"] == {"file": "a.txt", "line": None}
    assert found["details"] == ["b"]
    json.dumps(found)


def test_codes_and_exit_codes() -> None:
    assert {kind.code: kind.exit_code for kind in _CLASSES} == {
        "error": 3,
        "input": 1,
        "data": 1,
        "remote": 1,
        "spec": 1,
        "model": 1,
        "run": 1,
        "busy": 3,
        "usage": 2,
        "stopped": 130,
        "terminated": 143,
        "internal": 3,
    }


def test_suggestions() -> None:
    assert did_you_mean("trian", ["train", "eval"]) == "did you mean `train`?"
    assert did_you_mean("xyz", ["train", "eval"]) is None


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "old")

    def fail(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_text_that_is_no_unicode_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match="the disk is full") as caught:
        write_text(tmp_path / "a.txt", "new")
    assert str(caught.value.where) == str(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(RunError, match="cannot write here"):
        write_text(tmp_path / "a.txt" / "b.txt", "new")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"

    def fill(data: bytes, *, fails: bool) -> None:
        with new_file(path) as file:
            file.write(data)
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(b"first", fails=True)
    assert list(path.parent.iterdir()) == []
    fill(b"first", fails=False)
    with pytest.raises(KeyboardInterrupt):
        fill(b"second", fails=True)
    assert path.read_bytes() == b"first"
    # What a kill left behind is in nobody's way.
    (path.parent / "file.bin.partial").write_bytes(b"half of something longer")
    fill(b"third", fails=False)
    assert path.read_bytes() == b"third"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"

    def fill(text: str, *, fails: bool) -> None:
        with new_folder(path) as folder:
            (folder / "a.txt").write_text(text)
            if fails:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill("first", fails=True)
    assert list(tmp_path.iterdir()) == []
    fill("first", fails=False)
    with pytest.raises(KeyboardInterrupt):
        fill("second", fails=True)
    assert (path / "a.txt").read_text() == "first"
    # What a kill left behind is in nobody's way.
    (tmp_path / "folder.partial").mkdir()
    (tmp_path / "folder.partial" / "b.txt").write_text("half")
    (tmp_path / "folder.old").mkdir()
    fill("third", fails=False)
    assert [p.name for p in path.iterdir()] == ["a.txt"]
    assert (path / "a.txt").read_text() == "third"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", '{"a": '])
def test_a_damaged_record_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(RunError, match="damaged") as caught:
        read_json(path)
    assert str(caught.value.where) == str(path)


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, "é\u2028"], "a": {}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
).filter(lambda value: _is_encodable(value))


def _is_encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.dictionaries(st.text(alphabet="abcé"), _JSON))
def test_canonical_json_ignores_order(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)
    assert hash_json(turned) == hash_json(value)
    assert json.loads(canonical_json(value)) == value


def test_known_hashes(tmp_path: Path) -> None:
    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "a").write_bytes(b"")
    assert hash_bytes(b"") == hash_file(tmp_path / "a") == empty
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'


def test_a_folder_has_the_hash_of_names_and_contents(tmp_path: Path) -> None:
    seen = [hash_folder(tmp_path)]
    (tmp_path / "deep").mkdir()
    assert hash_folder(tmp_path) == seen[0]  # only files count
    for name, text in (("a", "1"), ("deep/b", "2"), ("a", "2"), ("c", "")):
        (tmp_path / name).write_text(text)
        seen.append(hash_folder(tmp_path))
    (tmp_path / "c").rename(tmp_path / "d")
    seen.append(hash_folder(tmp_path))
    assert len(set(seen)) == len(seen)


def test_a_file_that_cannot_be_hashed_is_the_users_matter(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="cannot be read") as caught:
        hash_file(tmp_path)
    assert str(caught.value.where) == str(tmp_path)


def test_home_is_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path))
    assert files.home() == tmp_path
    monkeypatch.delenv("TUNEFORK_HOME")
    assert files.home() == Path.home() / ".tunefork"


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (bytes_text(0), "0 B"),
        (bytes_text(999), "999 B"),
        (bytes_text(1234), "1.2 kB"),
        (bytes_text(10.8e6), "10.8 MB"),
        (bytes_text(2e15), "2000.0 TB"),
        (duration_text(0), "0 s"),
        (duration_text(59.4), "59 s"),
        (duration_text(59.6), "1 min 0 s"),
        (duration_text(200), "3 min 20 s"),
        (duration_text(3599.7), "1 h 0 min"),
        (duration_text(7500), "2 h 5 min"),
        (count_text(0), "0"),
        (count_text(5_400_000), "5.4M"),
        (count_text(7.1e9), "7.1B"),
    ],
)
def test_units(shown: str, text: str) -> None:
    assert shown == text
