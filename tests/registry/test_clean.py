"""`gc` drops what nothing refers to, and nothing else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from tests.registry.small import everything, register, write_data
from tunefork.registry import (
    Registry,
    add_data,
    clean,
    look_at_data,
    open_registry,
    verify,
)
from tunefork.registry.tables import DatasetVersion

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 3)),
        st.tuples(st.just("data"), st.integers(1, 5)),
        st.tuples(st.just("forget"), st.integers(1, 5)),
        st.tuples(st.just("stray"), st.integers(0, 3)),
        st.tuples(st.just("gc"), st.integers(0, 1)),
    ),
    max_size=12,
)


@settings(max_examples=20)
@given(_STEPS)
def test_what_is_referenced_is_never_dropped(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name, open_registry(Path(name) / "home") as registry:
        for kind, number in [*steps, ("gc", 0)]:
            _do(registry, Path(name), kind, number)
            found = verify(registry)
            assert found["sound"], found["damage"]
        kept = {row["hash"] for row in everything(registry)["blobs"] if row["is_kept"]}
        assert {address for address, _ in registry.objects.addresses()} == kept


def _do(registry: Registry, folder: Path, kind: str, number: int) -> None:
    if kind == "run":
        register(registry, folder / "work", f"run-{number}", bytes([number]))
    elif kind == "data":
        # Data of a few contents at a few places, so that copies are shared.
        seen = look_at_data(write_data(folder / f"data-{number % 2}", count=number))
        with registry.writing() as session:
            add_data(session, registry.objects, "loose", seen)
    elif kind == "forget":
        loose = DatasetVersion.dataset.like("loose%"), DatasetVersion.number >= number
        with registry.writing() as session:
            session.execute(delete(DatasetVersion).where(*loose))
    elif kind == "stray":
        path = folder / "stray"
        path.write_bytes(bytes([number]))
        registry.objects.put(path)
    else:
        before = _bytes(registry)
        planned = clean(registry, is_dry=True)
        assert _bytes(registry) == before
        done = clean(registry, is_dry=bool(number))
        assert done["copies"] == planned["copies"]
        if not number:
            assert before - _bytes(registry) == done["copies_bytes"]


def _bytes(registry: Registry) -> int:
    return sum(path.stat().st_size for _, path in registry.objects.addresses())


@pytest.mark.parametrize("place", ["cache", "serving/caches/proj_a"])
@pytest.mark.parametrize("is_dry", [True, False])
def test_only_old_cache_entries_go(tmp_path: Path, is_dry: bool, place: str) -> None:
    tokens = tmp_path / place / "tokens"
    for name, age_days in (("old", 40), ("used", 1)):
        (tokens / name).mkdir(parents=True)
        for file in ("ids", "chunks.jsonl"):
            path = tokens / name / file
            path.write_bytes(b"x" * 100)
            # Reading marks the index only.
            days = 40 if file == "ids" else age_days
            then = path.stat().st_mtime - days * 86_400
            os.utime(path, (then, then))
    with open_registry(tmp_path) as registry:
        found = clean(registry, is_dry=is_dry)
    assert [Path(each["path"]).name for each in found["caches"]] == ["old"]
    assert found["freed_bytes"] == found["caches_bytes"] == 200
    assert (tokens / "old").exists() == is_dry
    assert (tokens / "used").exists()
