"""Memory is counted, and the C library may be told to keep it."""

import numpy as np

from tunefork.core.memory import (
    free_bytes,
    keep_freed_memory,
    peak_resident_bytes,
    resident_bytes,
)


def test_what_is_taken_is_counted() -> None:
    before = resident_bytes()
    block = np.ones(8 << 20)  # 64 MiB
    assert resident_bytes() - before > 32 << 20
    assert peak_resident_bytes() >= before + block.nbytes // 2
    assert free_bytes() > 0


def test_freed_memory_can_be_kept_on_any_system() -> None:
    keep_freed_memory()  # a C library of another make is left as it is
    assert float(np.ones(8 << 20).sum()) == 8 << 20
