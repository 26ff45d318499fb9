"""Limits per minute hold exactly: whatever is asked in whatever order, and from many threads."""

from __future__ import annotations

import contextlib
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serving.fakes import Clock
from tunefork.serving.callers import Payer
from tunefork.serving.errors import ApiError
from tunefork.serving.meters import Charge, Meters, UsedUpError


class _Time:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _most_in_a_minute(used: list[tuple[float, int]]) -> int:
    minutes = [[n for at, n in used if begin <= at < begin + 60] for begin, _ in used]
    return max(map(sum, minutes))


@pytest.mark.parametrize("seed", range(30))
def test_no_minute_has_more_than_the_limit(seed: int) -> None:
    random_, clock = random.Random(seed), _Time()
    meters, limit = Meters(clock), random_.choice([50, 300, 1000])
    key = Payer("key_a", requests_per_minute=20, tokens_per_minute=limit)
    project = Payer("proj_a", tokens_per_minute=2 * limit)
    open_: list[tuple[Charge, int]] = []
    requests: list[tuple[float, int]] = []
    tokens: list[tuple[float, int]] = []
    waits: list[float] = []
    for _ in range(300):
        clock.now += random_.choice([0.0, 0.01, 0.5, 3.0])
        if open_ and random_.random() < 0.4:
            charge, reserved = open_.pop(random_.randrange(len(open_)))
            spent = random_.randint(0, reserved)
            charge.settle(spent)
            tokens.append((clock.now, spent))
            continue
        try:
            meters.count_request([key, project])
            requests.append((clock.now, 1))
            wanted = random_.randint(1, limit)
            open_.append((meters.reserve([key, project], wanted, wanted), wanted))
        except UsedUpError as error:
            waits.append(error.wait_s)
    assert 0 < min(waits) <= max(waits) <= 60.1
    assert _most_in_a_minute(requests) <= 20
    assert _most_in_a_minute(tokens) <= limit


def test_what_was_refused_has_room_when_it_was_told_to_come_back() -> None:
    clock = _Time()
    meters, payers = Meters(clock), [Payer("key_a", requests_per_minute=3, tokens_per_minute=100)]
    for at in (0.0, 1.0, 2.0):
        clock.now = 1000.0 + at
        meters.count_request(payers)
        meters.reserve(payers, 30, 30).settle(30)
    with pytest.raises(UsedUpError) as raised:
        meters.count_request(payers)
    clock.now += raised.value.wait_s
    meters.count_request(payers)
    with pytest.raises(UsedUpError) as raised:
        meters.reserve(payers, 90, 90)
    clock.now += raised.value.wait_s
    meters.reserve(payers, 90, 90)


def test_an_answer_of_unknown_length_waits_for_an_empty_minute() -> None:
    meters, payers = Meters(Clock().monotonic), [Payer("proj_a", tokens_per_minute=100)]
    first = meters.reserve(payers, most=4000, least=20)
    with pytest.raises(UsedUpError):
        meters.reserve(payers, most=10, least=10)
    first.settle(130)
    first.settle(130)  # once is enough
    assert meters.headers(payers)["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(ApiError, match="too large"):
        meters.reserve(payers, most=101, least=101)


def test_the_nearest_limit_counts() -> None:
    clock = _Time()
    meters = Meters(clock)
    key, project = Payer("key_a", requests_per_minute=2), Payer("proj_a", requests_per_minute=3)
    for _ in range(2):
        meters.count_request([key, project])
    with pytest.raises(UsedUpError) as raised:
        meters.count_request([key, project])
    assert 59 < raised.value.wait_s <= 60.1
    assert meters.headers([key, project])["x-ratelimit-limit-requests"] == "2"
    meters.count_request([project])  # a refused request did not count
    with pytest.raises(UsedUpError):
        meters.count_request([project])
    clock.now += 61
    meters.count_request([key, project])


def test_many_threads_pass_no_limit() -> None:
    payers = [Payer("key_a", requests_per_minute=10, tokens_per_minute=50)]

    def ask(meters: Meters) -> tuple[int, int]:
        passed = spent = 0
        for _ in range(4):
            with contextlib.suppress(UsedUpError):
                meters.count_request(payers)
                passed += 1
            with contextlib.suppress(UsedUpError):
                meters.reserve(payers, 5, 5).settle(5)
                spent += 5
        return passed, spent

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns in the midst of everything
    try:
        with ThreadPoolExecutor(16) as pool:
            for _ in range(40):
                found = list(pool.map(ask, [Meters(Clock().monotonic)] * 16))
                assert sum(passed for passed, _ in found) == 10
                assert sum(spent for _, spent in found) == 50
    finally:
        sys.setswitchinterval(before)
