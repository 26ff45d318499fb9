"""Attempts on the same sealed questions are counted; the same evidence again is not a new one."""

from __future__ import annotations

from pathlib import Path

from tunefork.registry import count_attempt, open_registry, verify

QUESTIONS = [f"question {n}" for n in range(10)]


def count(home: Path, questions: list[str], answers: str) -> int:
    with open_registry(home) as registry, registry.writing() as session:
        return count_attempt(session, questions, answers)


def test_attempts_are_counted(tmp_path: Path) -> None:
    assert [count(tmp_path, QUESTIONS, answers) for answers in "abc"] == [1, 2, 3]


def test_the_same_evidence_is_the_attempt_that_it_was(tmp_path: Path) -> None:
    assert [count(tmp_path, QUESTIONS, answers) for answers in "abab"] == [1, 2, 1, 2]
    assert count(tmp_path, QUESTIONS[::-1], "a") == 1


def test_a_few_other_questions_do_not_begin_anew(tmp_path: Path) -> None:
    assert count(tmp_path, QUESTIONS, "a") == 1
    assert count(tmp_path, [*QUESTIONS, "more", "and more"], "b") == 2
    assert count(tmp_path, QUESTIONS[:4], "c") == 3
    assert count(tmp_path, [*QUESTIONS[:5], *"abcde"], "d") == 4


def test_other_questions_begin_anew(tmp_path: Path) -> None:
    assert count(tmp_path, QUESTIONS, "a") == 1
    assert count(tmp_path, [*QUESTIONS[:4], *"abcdef"], "a") == 1


def test_attempts_are_verified_like_all_else(tmp_path: Path) -> None:
    count(tmp_path, QUESTIONS, "a")
    with open_registry(tmp_path) as registry:
        assert verify(registry)["sound"]
