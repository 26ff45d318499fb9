"""A file prepared in chunks: the same rows as one by one, kept, never stale, whole after a kill."""

from __future__ import annotations

import csv
import datetime
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunefork.core.errors import DataError, SpecError
from tunefork.core.events import Event, Progress, Warned
from tunefork.core.files import home
from tunefork.data import (
    Kind,
    Prompts,
    Renderer,
    TokenFile,
    TokenRows,
    _batches,
    _chunks,
    _source,
    load_examples,
    load_tokenizer,
    preflight,
    prepare_file,
    prepared,
)
from tunefork.data.recognise import scan_kind

DATE = datetime.date(2024, 7, 26)
ROWS = [
    {"user": f"What do cats do on day {at}?", "assistant": "They sleep. " * (1 + at % 7)}
    for at in range(100)
]
Rows = list[dict[str, str]]


def _write(path: Path, rows: Rows) -> Path:
    if path.suffix == ".json":
        text = json.dumps(rows, indent=1)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        out = io.StringIO()
        mark = {".csv": ",", ".tsv": "\t"}[path.suffix]
        writer = csv.DictWriter(out, list(rows[0]), delimiter=mark, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = out.getvalue()
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def renderer(make_folder: Any) -> Renderer:
    return Renderer(load_tokenizer(make_folder("chatml_default_system")), DATE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _write(tmp_path / "train.jsonl", ROWS)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_source, "_CHUNK_ROWS", 8)
    monkeypatch.setattr(_batches, "_ROWS", 4)


def _cache() -> Path:
    return home() / "cache" / "tokens"


def _entries() -> list[Path]:
    return sorted(path for path in _cache().glob("*") if path.is_dir())


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _same(found: TokenFile, other: TokenFile) -> bool:
    return (
        found.rows.hash() == other.rows.hash()
        and found.facts.tobytes() == other.facts.tobytes()
        and found.asked.tobytes() == other.asked.tobytes()
    )


def _warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


# --- the same rows as one by one


WORDS = st.lists(
    st.sampled_from(["cat ", "é", "🐈", "日本", "\n", '"', ",", ";", "\t", "a", "  "]), max_size=12
).map("".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=30),
    suffix=st.sampled_from([".jsonl", ".json", ".csv", ".tsv"]),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 12)),
    characters=st.integers(1, 4000),
)
def test_any_file_in_any_chunks_gives_the_rows_one_by_one(
    rows: list[tuple[str, str]],
    suffix: str,
    sizes: tuple[int, int],
    characters: int,
    renderer: Renderer,
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEFORK_HOME", folder)
        patch.setattr(_source, "_CHUNK_ROWS", sizes[0])
        patch.setattr(_batches, "_ROWS", sizes[1])
        patch.setattr(_batches, "_CHARACTERS", characters)
        pairs = [{"user": question, "assistant": answer} for question, answer in rows]
        path = _write(Path(folder) / f"a{suffix}", pairs)
        found, again = prepare_file(path, renderer, seed=1), prepare_file(path, renderer, seed=1)
        examples = load_examples(path)
        whole = TokenRows.from_rendered([renderer.render(example) for example in examples])
        assert found.rows.hash() == again.rows.hash() == whole.hash()
        assert _same(found, again)
        assert found.facts["line"].tolist() == [example.where.line for example in examples]
        assert found.facts["length"].tolist() == whole.lengths.tolist()
        assert found.facts["n_trained"].tolist() == [
            int((whole.row(at)[1] > 0).sum()) for at in range(len(whole))
        ]
        asked = Prompts(found.asked)
        assert all(example.messages[0].content in asked for example in examples)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=WORDS, marks=st.lists(st.integers(0, 60), max_size=4))
def test_places_of_tokens_are_found_by_halving(
    text: str, marks: list[int], renderer: Renderer
) -> None:
    encoded = renderer.tokenizer.encode_with_places(text)
    begins = [begin for begin, _ in renderer.tokenizer.backend.encode(text).offsets]
    for mark in marks:
        at = encoded.first_from(mark)
        assert all(begin < mark for begin in begins[:at])
        assert all(begin >= mark for begin in begins[at:])


TEMPLATES = sorted(path.stem for path in (Path(__file__).parent / "templates").glob("*.jinja"))


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_ids_and_weights_in_batches_are_those_one_by_one(
    template: str, kind: str, make_folder: Any, tmp_path: Path
) -> None:
    folder = make_folder(template, kind, bos_token="<bos>", eos_token="<eos>")
    renderer = Renderer(load_tokenizer(folder), DATE)
    turns = ["Hi é🐈", "Hello <|im_end|> x", "  And cats? ", "日本 sleep.\n"]
    rows = [
        {
            "messages": [
                {"role": "assistant" if at % 2 else "user", "content": turns[at] + "!" * number}
                for at in range(2 + 2 * (number % 2))
            ]
        }
        for number in range(20)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = TokenRows.from_rendered([renderer.render(row) for row in load_examples(path)])
    assert prepare_file(path, renderer).rows.hash() == expected.hash()
    # The reference: every token by its own place in the text.
    for example in load_examples(path):
        draft = renderer.draft(example)
        offsets = renderer.tokenizer.backend.encode(draft.text, add_special_tokens=False).offsets
        weights = [
            max((s.weight for s in draft.spans if s.begin <= begin < s.end), default=0.0)
            for begin, _ in offsets
        ]
        assert renderer.render(example).weights == weights


# --- what is kept


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    reads: list[Path] = []
    scan = scan_kind

    def counted(path: Path, kind: Kind, mapping: Any = None) -> Any:
        reads.append(path)
        return scan(path, kind, mapping)

    monkeypatch.setattr(_source, "scan_kind", counted)
    return reads


def test_rows_are_made_once(
    data: Path, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _count_reads(monkeypatch)
    first = prepare_file(data, renderer, seed=0)
    copy = tmp_path / "copy.jsonl"
    shutil.copyfile(data, copy)
    again = prepare_file(copy, renderer, seed=0)
    assert _same(first, again)
    assert reads == [data]
    assert again.path == copy  # so that findings name the file that was given


def _other_folder(make_folder: Any, **changes: Any) -> Renderer:
    return Renderer(load_tokenizer(make_folder("chatml_default_system", **changes)), DATE)


_CHANGES: dict[str, Callable[[Path, Renderer, Any], dict[str, Any]]] = {
    "a byte of the file": lambda path, renderer, make: {
        "path": _write(path.with_name("b.jsonl"), [*ROWS[:-1], ROWS[0]])
    },
    "the ending of its name": lambda path, renderer, make: {
        "path": Path(shutil.copyfile(path, path.with_suffix(".ndjson")))
    },
    "the mapping": lambda path, renderer, make: {
        "mapping": {"user": "assistant", "assistant": "user"}
    },
    "the seed": lambda path, renderer, make: {"seed": 1},
    "no seed": lambda path, renderer, make: {"seed": None},
    "the date": lambda path, renderer, make: {
        "renderer": Renderer(renderer.tokenizer, DATE + datetime.timedelta(days=1))
    },
    "the tokenizer": lambda path, renderer, make: {"renderer": _other_folder(make, kind="pieces")},
    "the template": lambda path, renderer, make: {
        "renderer": Renderer(load_tokenizer(make("eos_after_every_turn")), DATE)
    },
    "the end token": lambda path, renderer, make: {
        "renderer": _other_folder(make, eos_token="<eos>")
    },
    "what ends a turn": lambda path, renderer, make: {
        "renderer": _other_folder(make, files={"generation_config.json": {"eos_token_id": [4]}})
    },
}


@pytest.mark.parametrize("change", _CHANGES)
def test_whatever_decides_the_rows_makes_others(
    change: str,
    data: Path,
    renderer: Renderer,
    make_folder: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = _count_reads(monkeypatch)
    given: dict[str, Any] = {"path": data, "renderer": renderer, "seed": 0}
    prepare_file(**given)
    given |= _CHANGES[change](data, renderer, make_folder)
    found = prepare_file(**given)
    assert len(reads) == 2
    examples = load_examples(given["path"], given.get("mapping"))
    expected = TokenRows.from_rendered([given["renderer"].render(row) for row in examples])
    assert found.rows.hash() == expected.hash()
    assert len(_entries()) == 2


def test_other_code_makes_others(
    data: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _count_reads(monkeypatch)
    prepare_file(data, renderer)
    monkeypatch.setattr(_source, "_code_hash", lambda: "other code")
    prepare_file(data, renderer)
    assert len(reads) == 2


def _change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _move_an_end(path: Path) -> None:
    text = path.read_text()
    path.write_text(re.sub(r'"ids": (\d+)', r'"ids": \g<1>0000000000', text, count=1))


_DAMAGES: dict[str, Callable[[Path], object]] = {
    "ids garbled": lambda folder: _change_byte(folder / "ids"),
    "weights garbled": lambda folder: _change_byte(folder / "weights"),
    "facts garbled": lambda folder: _change_byte(folder / "facts"),
    "asked garbled": lambda folder: _change_byte(folder / "asked"),
    "ids cut": lambda folder: os.truncate(folder / "ids", 40),
    "ids longer": lambda folder: os.truncate(folder / "ids", 10**6),
    "weights gone": lambda folder: (folder / "weights").unlink(),
    "list gone": lambda folder: (folder / "chunks.jsonl").unlink(),
    "list cut": lambda folder: os.truncate(folder / "chunks.jsonl", 300),
    "list no JSON": lambda folder: (folder / "chunks.jsonl").write_bytes(b"\xff{\n"),
    "list of a far end": lambda folder: _move_an_end(folder / "chunks.jsonl"),
    "list of lists": lambda folder: (folder / "chunks.jsonl").write_text("[]\n3\n"),
    "list empty": lambda folder: (folder / "chunks.jsonl").write_text(""),
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("damage", _DAMAGES)
def test_damaged_rows_are_noticed_and_made_anew(
    damage: str, data: Path, renderer: Renderer
) -> None:
    first = prepare_file(data, renderer, seed=0)
    hashed = first.rows.hash()
    (entry,) = _entries()
    before = _bytes(entry)
    copy = shutil.copytree(entry, entry.with_name("copy"))
    shutil.rmtree(entry)  # what is mapped must not change under the first
    copy.rename(entry)
    _DAMAGES[damage](entry)
    events: list[Event] = []
    again = prepare_file(data, renderer, seed=0, sink=events.append)
    assert again.rows.hash() == hashed
    (warning,) = _warnings(events)
    assert "damaged" in warning
    assert str(entry) in warning
    assert _bytes(entry) == before
    assert _entries() == [entry]


def test_what_was_not_used_for_longest_is_dropped(
    data: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Path] = []
    for seed in range(3):
        prepare_file(data, renderer, seed=seed)
        (new,) = set(_entries()) - set(kept)
        os.utime(new / "chunks.jsonl", (seed, seed))
        kept.append(new)
    prepare_file(data, renderer, seed=0)  # used again
    size = sum(len(content) for content in _bytes(kept[0]).values())
    monkeypatch.setattr(prepared, "_CACHE_BYTES", 3 * size)
    found = prepare_file(data, renderer, seed=3)
    assert set(kept) & set(_entries()) == {kept[0], kept[2]}
    monkeypatch.setattr(prepared, "_CACHE_BYTES", 0)
    prepare_file(data, renderer, seed=4)
    assert len(_entries()) == 1
    assert len(found.rows.hash()) > 0  # still there for who has it open


# --- interrupted


class _Stop(Exception):
    pass


def _stop_at(monkeypatch: pytest.MonkeyPatch, chunk: int, error: BaseException) -> None:
    append = _chunks.FolderChunks.append
    calls = 0

    def stopping(self: _chunks.FolderChunks, found: _chunks.Chunk) -> None:
        nonlocal calls
        calls += 1
        if calls == chunk:
            raise error
        append(self, found)

    monkeypatch.setattr(_chunks.FolderChunks, "append", stopping)


def _spoil_last_chunk(partial: Path) -> None:
    path = partial / "ids"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


_LEFT: dict[str, Callable[[Path], object]] = {
    "nothing more": lambda partial: None,
    "half a chunk": lambda partial: (partial / "ids").open("ab").write(b"12345"),
    "half a line": lambda partial: (partial / "chunks.jsonl").open("ab").write(b'{"ends": {"id'),
    "a chunk that is not sound": _spoil_last_chunk,
    "no list": lambda partial: (partial / "chunks.jsonl").unlink(),
    "a file less": lambda partial: (partial / "weights").unlink(),
}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("left", _LEFT)
@pytest.mark.parametrize("chunk", [1, 2, 5, 13])
def test_interrupted_rows_go_on_to_the_same_bytes(
    chunk: int, left: str, data: Path, renderer: Renderer, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEFORK_HOME", str(tmp_path / "whole"))
        whole = prepare_file(data, renderer, seed=0)
        (entry,) = _entries()
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, chunk, _Stop())
        with pytest.raises(_Stop):
            prepare_file(data, renderer, seed=0)
    (partial,) = _entries()
    assert partial.suffix == ".partial"
    if chunk > 1 or left == "nothing more":
        _LEFT[left](partial)
    found = prepare_file(data, renderer, seed=0)
    assert _same(found, whole)
    assert [path.name for path in _entries()] == [entry.name]
    assert _bytes(_entries()[0]) == _bytes(entry)


@pytest.mark.usefixtures("small_chunks")
def test_what_was_finished_is_not_rendered_again(
    data: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _stop_at(patch, 6, _Stop())
        with pytest.raises(_Stop):
            prepare_file(data, renderer)
    rendered = []
    draft = Renderer.draft

    def counted(self: Renderer, example: Any) -> Any:
        rendered.append(example.where.line)
        return draft(self, example)

    monkeypatch.setattr(Renderer, "draft", counted)
    prepare_file(data, renderer)
    assert rendered == list(range(5 * 8 + 1, 101))


_KILLED = """
import datetime, os, signal, sys
from pathlib import Path
from tunefork.data import Renderer, _batches, _chunks, _source, load_tokenizer, prepare_file
_source._CHUNK_ROWS, _batches._ROWS = 8, 4
line = _chunks._line
left = int(sys.argv[3])
def killed(entry):
    global left
    left -= 1
    if not left:  # its tokens are written, but it is not listed
        os.kill(os.getpid(), signal.SIGKILL)
    return line(entry)
_chunks._line = killed
renderer = Renderer(load_tokenizer(Path(sys.argv[2])), datetime.date(2024, 7, 26))
print(prepare_file(Path(sys.argv[1]), renderer).rows.hash())
"""


def _process(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _KILLED, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("small_chunks")
def test_killed_rows_go_on_to_the_same_bytes(
    data: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_folder("chatml_default_system")
    for lines in (4, 7):
        process = _process(data, folder, lines)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    (partial,) = _entries()
    # The second sitting lists again what the first one left whole.
    assert (partial / "chunks.jsonl").read_bytes().count(b"\n") >= 3
    renderer = Renderer(load_tokenizer(folder), DATE)
    prepare_file(data, renderer)
    killed = _bytes(_entries()[0])
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "other"))
    prepare_file(data, renderer)
    assert _bytes(_entries()[0]) == killed


def test_two_processes_at_once_do_no_harm(data: Path, make_folder: Any, renderer: Renderer) -> None:
    folder = make_folder("chatml_default_system")
    processes = [_process(data, folder, 10**6) for _ in range(3)]
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, ends
    assert len({out for out, _ in ends}) == 1
    assert [path.suffix for path in _entries()] == [""]
    expected = TokenRows.from_rendered([renderer.render(row) for row in load_examples(data)])
    assert ends[0][0].strip() == expected.hash()


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_the_second_waits_for_the_first(data: Path, renderer: Renderer) -> None:
    import fcntl

    prepare_file(data, renderer)
    (entry,) = _entries()
    shutil.rmtree(entry)
    events: list[Event] = []
    with entry.with_name(f"{entry.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def sink(event: Event) -> None:
            events.append(event)
            fcntl.flock(lock, fcntl.LOCK_UN)  # the first has ended

        prepare_file(data, renderer, sink=sink)
    assert _warnings(events) == ["another run is preparing the same rows; waiting for it to end"]
    assert _entries() == [entry]


# --- nowhere to keep them


def test_a_home_that_cannot_be_written_to(
    data: Path, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_file(data, renderer, seed=0)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TUNEFORK_HOME", str(tmp_path / "file"))
    events: list[Event] = []
    assert _same(prepare_file(data, renderer, seed=0, sink=events.append), whole)
    (warning,) = _warnings(events)
    assert "cannot keep the prepared rows" in warning
    assert "going on without" in warning


@pytest.mark.usefixtures("small_chunks")
def test_a_disk_that_is_full(
    data: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_at(monkeypatch, 3, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    events: list[Event] = []
    found = prepare_file(data, renderer, sink=events.append)
    expected = TokenRows.from_rendered([renderer.render(row) for row in load_examples(data)])
    assert found.rows.hash() == expected.hash()
    (warning,) = _warnings(events)
    assert "No space left on device" in warning
    assert _entries() == []  # the run itself needs the room


# --- what is wrong with a file


def test_all_bad_rows_are_counted_and_few_are_kept(renderer: Renderer, tmp_path: Path) -> None:
    lines = [json.dumps(row) if at % 3 else '{"user": 1}' for at, row in enumerate(ROWS)]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join([json.dumps(ROWS[0]), *lines]))
    with pytest.raises(DataError, match="no `assistant`") as caught:
        prepare_file(path, renderer)
    assert str(caught.value.where) == f"{path}:2"
    assert len(caught.value.details) == 6
    assert caught.value.details[0].startswith(f"{path}:5: ")
    assert caught.value.details[-1] == "... and 28 more"
    assert _entries() == []


@pytest.mark.usefixtures("small_chunks")
def test_all_rows_that_the_template_refuses_are_named(make_folder: Any, tmp_path: Path) -> None:
    renderer = Renderer(load_tokenizer(make_folder("bracketed", bos_token="<bos>")), DATE)
    good = {"messages": [{"role": r, "content": "x"} for r in ("user", "assistant")]}
    bad = {"messages": [{"role": r, "content": "x"} for r in ("user", "user", "assistant")]}
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(bad if at % 10 == 9 else good) + "\n" for at in range(100)))
    with pytest.raises(DataError, match="must alternate") as caught:
        prepare_file(path, renderer)
    assert str(caught.value.where) == f"{path}:10"
    assert caught.value.details[-1] == "... and 4 more"
    assert _entries() == []


def test_half_a_character_names_its_row_only(renderer: Renderer, tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "\ud83d", "arguments": "{}"}}
    rows: list[Any] = [
        {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
        for _ in range(5)
    ]
    rows[2]["messages"][1] |= {"tool_calls": [call]}
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        prepare_file(path, _telling(renderer))
    assert str(caught.value.where) == f"{path}:3"
    assert "half a character" in caught.value.message
    assert caught.value.details == ()


def _telling(renderer: Renderer) -> Renderer:
    """Return a renderer whose template writes the names of tool calls."""
    source = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
        "{% endfor %}{{ m.content }}<|im_end|>{% endfor %}"
    )
    return Renderer(replace(renderer.tokenizer, chat_template=source), DATE)


def test_a_wrong_mapping_leaves_nothing(data: Path, renderer: Renderer) -> None:
    with pytest.raises(SpecError, match="unknown key"):
        prepare_file(data, renderer, mapping={"usr": "user", "assistant": "assistant"})
    assert _entries() == []


@pytest.mark.parametrize("name", ["missing.jsonl", "folder.jsonl"])
def test_what_is_no_file(name: str, renderer: Renderer, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError) as caught:
        prepare_file(tmp_path / name, renderer)
    assert caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names there")
def test_a_pipe_is_read_once(renderer: Renderer, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(path.write_text, text)
        assert len(prepare_file(path, renderer).rows) == len(ROWS)
        assert written.result() == len(text)
    assert not _cache().exists()


def test_a_file_that_changes_meanwhile(
    data: Path, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = scan_kind

    def changing(path: Path, kind: Kind, mapping: Any = None) -> Any:
        yield from scan(path, kind, mapping)
        with path.open("a") as file:
            file.write(json.dumps(ROWS[0]) + "\n")

    with monkeypatch.context() as patch:
        patch.setattr(_source, "scan_kind", changing)
        with pytest.raises(DataError, match="changed while it was read"):
            prepare_file(data, renderer)
    assert _entries() == []
    assert len(prepare_file(data, renderer).rows) == 101


# --- what is told meanwhile


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_progress_tells_how_many_rows_there_will_be(
    suffix: str, renderer: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_source, "_PROGRESS_EVERY", 10)
    path = _write(tmp_path / f"train{suffix}", ROWS)
    events: list[Event] = []
    prepare_file(path, renderer, sink=events.append)
    told = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in told][:9] == list(range(10, 100, 10))
    assert {event.what for event in told} == {f"reading {path.name}"}
    assert all(abs(event.total - 100) <= 12 for event in told)
    assert abs(told[-1].total - 100) <= 3


def test_findings_are_those_of_the_rows(renderer: Renderer, tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    rows[4]["assistant"] = "naps " * 300
    path = _write(tmp_path / "train.jsonl", rows)
    found = prepare_file(path, renderer)
    check = preflight(found.facts, str(path), renderer, 200)
    assert check.findings == (f"1 row longer than 200 tokens, left out: {path}:5",)
    assert check.kept.tolist() == [at for at in range(100) if at != 4]
    assert preflight(found.facts, str(path), renderer, 10**6).findings == ()


# --- much


_MEASURED = """
import datetime, json, sys
from pathlib import Path
from tunefork.core.memory import peak_resident_bytes, resident_bytes
from tunefork.data import Renderer, load_tokenizer, prepare_file
before = resident_bytes()
renderer = Renderer(load_tokenizer(Path(sys.argv[2])), datetime.date(2024, 7, 26))
found = prepare_file(Path(sys.argv[1]), renderer, seed=0)
print(json.dumps([len(found.rows), found.rows.n_tokens, peak_resident_bytes() - before]))
"""


@pytest.mark.soak
def test_memory_stays_small_while_rows_grow(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder("chatml_default_system")
    peaks = []
    for count in (5_000, 50_000):
        rows = [
            {"user": f"What do cats do on day {at}?", "assistant": "They sleep a lot. " * 6}
            for at in range(count)
        ]
        path = _write(tmp_path / f"{count}.jsonl", rows)
        command = [sys.executable, "-c", _MEASURED, str(path), str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        n_rows, n_tokens, peak = json.loads(ended.stdout)
        assert n_rows == count
        peaks.append(peak)
    # Ten times the rows: 8 bytes of each token, where they are mapped, and few of each row.
    assert peaks[1] - peaks[0] < 8 * n_tokens + 200 * n_rows + 60e6
    assert peaks[1] < 400e6


def test_empty_sets() -> None:
    assert "x" not in Prompts(np.empty(0, np.uint64))
