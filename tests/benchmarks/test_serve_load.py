"""Many clients at once: nothing but answers and 429, in bounded memory."""

from __future__ import annotations

import pytest

from benchmarks.serve_load import measure


@pytest.mark.soak
def test_five_hundred_clients_for_two_minutes() -> None:
    found = measure(500, 120)
    print(found)
    assert found["errors"] == {}
    assert found["answers"] > 0
    # What is kept grows with what is asked at once, not with time.
    assert found["resident_bytes_late"] < 1.1 * found["resident_bytes_early"] + 50e6
