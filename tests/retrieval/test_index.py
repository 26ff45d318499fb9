"""An index finds what it should, is repeatable, and survives updates, kills and damage."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunefork.core.errors import InputError, RunError
from tunefork.core.events import Event, Warned
from tunefork.retrieval import Index, build_index, update_index
from tunefork.retrieval import index as index_module

_PAGES = {
    "leave.md": "# Leave\nAsk for leave in HR Links.\n## Sick leave\nCall before nine.\n",
    "travel.md": "# Travel\nBook flights in Concur.\n## Hotels\nHotels are booked there too.\n",
    "shop.md": "# Shop\nThe shop opens at nine and sells cheese.\n",
}


class _Letters:
    """An embedder that counts letters, and the texts it was given."""

    def __init__(self, name: str = "letters") -> None:
        self.name = name
        self.n_texts = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.n_texts += len(texts)
        counts = [[1 + text.lower().count(letter) for letter in "abcdefghij"] for text in texts]
        found = np.array(counts, dtype=np.float32)
        vectors: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
        return vectors


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, text in _PAGES.items():
        (folder / name).write_text(text)
    return folder


def _found(index: Index, question: str, **settings: Any) -> list[tuple[str, float]]:
    return [(hit.chunk.place, hit.score) for hit in index.search(question, **settings)]


def _same(one: Index, other: Index) -> None:
    assert one.hash == other.hash
    assert one.chunks == other.chunks
    assert (one.vectors is None) == (other.vectors is None)
    if one.vectors is not None:
        np.testing.assert_array_equal(one.vectors, other.vectors)
    for question in ("When does the shop open?", "sick leave", "booking flights and hotels"):
        assert _found(one, question) == _found(other, question)


def test_words_are_found_in_any_form(pages: Path) -> None:
    index = build_index(pages)
    assert index.search("Where are the HOTEL bookings made?")[0].chunk.source == "travel.md"
    assert index.search("opening")[0].chunk.source == "shop.md"
    assert index.search("zebra") == []
    assert index.search("") == []


def test_a_question_of_stop_words_alone_is_searched_by_them(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("To be or not to be.")
    (tmp_path / "b.md").write_text("Cheese and wine with the best of bread and friends.")
    assert build_index(tmp_path).search("to be")[0].chunk.source == "a.md"


def test_each_document_comes_once_before_any_comes_twice(tmp_path: Path) -> None:
    (tmp_path / "cheese.md").write_text("\n\n".join(["cheese cheese " + "word " * 90] * 4))
    (tmp_path / "other.md").write_text("Some cheese, " + "much else " * 60)
    index = build_index(tmp_path)
    sources = [hit.chunk.source for hit in index.search("cheese", 3)]
    assert sources == ["cheese.md", "other.md", "cheese.md"]
    best = [hit.chunk.source for hit in index.search("cheese", 3, spread=False)]
    assert best == ["cheese.md"] * 3


def test_vectors_find_by_nearness_and_join_words_by_rank(pages: Path) -> None:
    embed = _Letters()
    index = build_index(pages, embed=embed)
    assert index.vectors is not None
    asked = embed.embed(["a bad cab"])[0]
    nearest = index.chunks[int(np.argmax(index.vectors @ asked))]
    (near,) = index.search("a bad cab", 1, how="vectors", embed=embed)
    assert near.chunk == nearest
    by_words = index.search("cheese", 1, how="keywords", embed=embed)[0]
    both = {hit.chunk: hit.score for hit in index.search("cheese", how="hybrid", embed=embed)}
    by_vectors = [h.chunk for h in index.search("cheese", how="vectors", embed=embed, spread=False)]
    rank = by_vectors.index(by_words.chunk) + 1
    assert both[by_words.chunk] == pytest.approx(1 / 61 + 1 / (60 + rank))


def test_vectors_of_another_model_are_refused(pages: Path) -> None:
    index = build_index(pages, embed=_Letters())
    with pytest.raises(InputError, match="by `letters`"):
        index.search("cheese", embed=_Letters("other"))


def test_what_was_saved_is_opened(pages: Path, tmp_path: Path) -> None:
    index = build_index(pages, embed=_Letters())
    index.save(tmp_path / "index")
    _same(Index.open(tmp_path / "index"), index)


_EDITS = st.lists(
    st.tuples(
        st.sampled_from([*_PAGES, "new.md"]), st.sampled_from(["", "Fresh cheese.", "Gone."])
    ),
    max_size=4,
)


@settings(max_examples=8)
@given(_EDITS)
def test_an_update_equals_a_rebuild(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("update")
    (root / "pages").mkdir()
    for name, text in _PAGES.items():
        (root / "pages" / name).write_text(text)
    update_index(root / "pages", root / "index", embed=_Letters())
    for name, text in edits:
        if text == "Gone.":
            (root / "pages" / name).unlink(missing_ok=True)
        else:
            (root / "pages" / name).write_text(text)
    if not any(path.read_text() for path in (root / "pages").iterdir()):
        return
    updated = update_index(root / "pages", root / "index", embed=_Letters())
    _same(updated, build_index(root / "pages", embed=_Letters()))
    _same(Index.open(root / "index"), updated)
    shutil.rmtree(root)


def test_an_update_reads_and_embeds_only_what_changed(
    pages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(pages, tmp_path / "index", embed=_Letters())
    (pages / "shop.md").write_text("# Shop\nClosed.\n")
    embed = _Letters()
    update_index(pages, tmp_path / "index", embed=embed)
    assert embed.n_texts == 1
    before = (tmp_path / "index" / "index.json").stat().st_mtime_ns
    update_index(pages, tmp_path / "index", embed=embed)
    assert embed.n_texts == 1
    assert (tmp_path / "index" / "index.json").stat().st_mtime_ns == before


def _killed(pages: Path, folder: Path, at: int) -> None:
    """Update an index, and die at the n-th file that is written."""
    n_written = 0
    write = os.fsync

    def dying(descriptor: int) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == at:
            os._exit(9)
        write(descriptor)

    pytest.MonkeyPatch().setattr(os, "fsync", dying)
    update_index(pages, folder)


def test_a_kill_at_any_write_leaves_an_index_that_works(pages: Path, tmp_path: Path) -> None:
    old = update_index(pages, tmp_path / "index")
    (pages / "shop.md").write_text("# Shop\nThe shop is closed.\n")
    new = build_index(pages)
    context = multiprocessing.get_context("fork")
    n_kills, at = 0, 1
    while True:
        copy = tmp_path / f"index-{at}"
        shutil.copytree(tmp_path / "index", copy)
        child = context.Process(target=_killed, args=(pages, copy, at))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        n_kills, at = n_kills + 1, at + 1
        _same(Index.open(copy), old)
        _same(update_index(pages, copy), new)
        assert len([path for path in copy.iterdir() if path.is_dir()]) == 1
    assert n_kills > 5


@pytest.mark.parametrize("name", ["index.json", "chunks.jsonl", "params.index.json"])
def test_a_damaged_index_says_so_and_is_built_anew(pages: Path, tmp_path: Path, name: str) -> None:
    index = update_index(pages, tmp_path / "index")
    for path in (tmp_path / "index").rglob(name):
        path.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        Index.open(tmp_path / "index")
    events: list[Event] = []
    _same(update_index(pages, tmp_path / "index", sink=events.append), index)
    assert [event for event in events if isinstance(event, Warned)]
    _same(Index.open(tmp_path / "index"), index)


def test_an_index_of_another_version_is_built_anew(pages: Path, tmp_path: Path) -> None:
    index = update_index(pages, tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(RunError, match="version 99"):
        Index.open(tmp_path / "index")
    _same(update_index(pages, tmp_path / "index"), index)


@given(st.lists(st.floats(0, 3, width=16).map(lambda x: round(x)), min_size=1, max_size=30))
def test_of_equal_scores_the_first_comes_first(scores: list[int]) -> None:
    best = index_module._best(np.array(scores, dtype=np.float32), 5)
    expected = sorted(enumerate(scores), key=lambda pair: (-pair[1], pair[0]))[:5]
    assert best == expected
