"""Adapters that come and go leave no memory behind."""

import gc
import os
from pathlib import Path

import psutil
import pytest

from tests.inference.engine import ask, read, running, save_adapters


def _resident() -> int:
    gc.collect()
    return int(psutil.Process(os.getpid()).memory_info().rss)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)])
def test_loads_leave_no_memory_behind(tmp_path: Path, count: int) -> None:
    folders = save_adapters(tmp_path)
    with running(tmp_path) as engine:

        def cycle(count: int) -> None:
            for number in range(count):
                key = list(folders)[number % len(folders)]
                engine.pool.register(key, folders[key])
                read(engine.submit(ask([5 + number % 7], key, max_tokens=2)))
                engine.pool.forget(key)

        cycle(40)
        before = _resident()
        cycle(count)
        assert len(engine.pool.resident) <= 1
        assert _resident() - before < 8 << 20, "it grew"
