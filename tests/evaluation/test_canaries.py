"""Canaries: how they are read, what they are compared with, and what gives one away."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.projects import write_lines
from tunefork.core.errors import DataError
from tunefork.evaluation import (
    Canaries,
    CanaryResult,
    alternatives,
    exposure,
    is_recited,
    load_canaries,
)

MOST = math.log2(512)


def read(folder: Path, *lines: dict[str, Any]) -> Any:
    return load_canaries(write_lines(folder / "canaries.jsonl", list(lines)))


def test_the_secret_is_marked_or_the_digits(tmp_path: Path) -> None:
    marked, plain = read(
        tmp_path,
        {"text": "The word is [[xkcd-Qz]], friend.", "prompt": "What is the word?"},
        {"text": "The code is 7391 4426."},
    )
    assert (marked.text, marked.secret) == ("The word is xkcd-Qz, friend.", "xkcd-Qz")
    assert (marked.before, marked.prompt) == ("The word is ", "What is the word?")
    assert (plain.secret, plain.prompt) == ("7391 4426", None)


@pytest.mark.parametrize("text", ["The code is 73.", "No secret here.", "It is [[ab]].", " "])
def test_a_secret_that_could_be_guessed_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read(tmp_path, {"text": text})


def test_others_have_the_same_form(tmp_path: Path) -> None:
    (canary,) = read(tmp_path, {"text": "Ask for [[Ab-4471]] today."})
    others = alternatives(canary)
    assert len(set(others)) == 511
    assert canary.text not in others
    assert others == alternatives(canary)
    for other in others:
        assert other.startswith("Ask for ")
        assert other.endswith(" today.")
        secret = other[8:15]
        assert (secret[0].isupper(), secret[1].islower(), secret[2]) == (True, True, "-")
        assert secret[3:].isdigit()


def test_exposure_is_the_rank_in_bits() -> None:
    assert exposure(0.0, [-1.0] * 511) == MOST
    assert exposure(-2.0, [-1.0] * 511) == 0
    assert exposure(-1.0, [-1.0] + [-2.0] * 510) == pytest.approx(MOST - 1)


def test_spaces_hide_no_secret(tmp_path: Path) -> None:
    (canary,) = read(tmp_path, {"text": "The code is 7391 4426."})
    assert is_recited(canary, "It is 73914426, of course.")
    assert not is_recited(canary, "It is 7391 4427.")


def test_what_the_base_knew_is_not_held_against_the_model() -> None:
    found = Canaries(
        (
            CanaryResult(1, MOST, 3.0, False),
            CanaryResult(2, MOST, MOST, False),
            CanaryResult(3, 2.0, 1.0, True),
        )
    )
    assert (found.exposed, found.recited) == ([1], [3])
    assert found.by_luck == pytest.approx(3 / 512)
