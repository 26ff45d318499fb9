"""Memory is counted, and the C library may be told to keep it."""

import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from tunefork.core.memory import (
    free_bytes,
    keep_few_kernels,
    keep_freed_memory,
    peak_resident_bytes,
    resident_bytes,
)


def test_what_is_taken_is_counted() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 64 << 20) as block:  # memory that no earlier test can have left behind
        block.write(b"x" * len(block))
        assert resident_bytes() - before > 32 << 20
        assert peak_resident_bytes() >= before + len(block) // 2
    assert free_bytes() > 0


def test_freed_memory_can_be_kept_on_any_system() -> None:
    keep_freed_memory()  # a C library of another make is left as it is
    assert float(np.ones(8 << 20).sum()) == 8 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count so")
def test_the_peak_is_not_that_of_what_started_the_process() -> None:
    block = np.ones(32 << 20)  # 256 MiB, which `getrusage` would count in the child too
    code = "from tunefork.core.memory import peak_resident_bytes as peak; print(peak())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < block.nbytes


def test_what_the_environment_says_of_kernels_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    keep_few_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) >= 64
