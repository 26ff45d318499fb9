"""Aliases: what they stand for, and how they came to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry.small import register, verdict
from tunefork.core.errors import ModelError
from tunefork.registry import (
    Bundle,
    Registry,
    add_evaluation,
    add_model,
    current_aliases,
    events_of,
    find_model,
    lineage,
    lineage_text,
    list_models,
    open_registry,
    promote,
    rollback,
    show_model,
    verify,
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("aliases")
    with open_registry(folder / "home") as found:
        for name in "abc":
            register(found, folder / name, name, name.encode())
        yield found


def _promote(registry: Registry, model: str, alias: str, reason: str | None = None) -> None:
    with registry.writing() as session:
        promote(session, find_model(session, model), alias, reason)


def _rollback(registry: Registry, alias: str, reason: str | None = None) -> None:
    with registry.writing() as session:
        rollback(session, alias, reason)


def _stands_for(registry: Registry, alias: str) -> str:
    with registry.reading() as session:
        return find_model(session, alias).name


def test_history_says_who_when_and_why(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ada")
    _promote(registry, "a", "live", "the first")
    _promote(registry, "b", "live", "better on hours")
    _promote(registry, "b", "live", "again, which is no change")
    _rollback(registry, "live", "b was rude")
    with registry.reading() as session:
        found = show_model(session, "live")
        history = found["aliases"]["live"]
        chain = events_of(session, "live")
    assert found["name"] == "a"
    assert [(each["action"], each["model"], each["reason"]) for each in history] == [
        ("promote", "a", "the first"),
        ("promote", "b", "better on hours"),
        ("rollback", "a", "b was rude"),
    ]
    assert {each["who"] for each in history} == {"ada"}
    times = [each["when"] for each in history]
    assert times == sorted(times)
    assert [each.previous_hash for each in chain] == [None, *(e.row_hash for e in chain[:-1])]


def test_an_alias_may_name_another_and_keeps_what_that_stood_for(registry: Registry) -> None:
    _promote(registry, "a", "staging")
    _promote(registry, "staging", "canary")
    _promote(registry, "c", "staging")
    assert _stands_for(registry, "canary") == "a"


@pytest.mark.parametrize("alias", ["", "two words", "a/b", "../up", "tiny", "a", "-x", "x" * 65])
def test_what_cannot_be_an_alias_is_refused(registry: Registry, alias: str) -> None:
    with pytest.raises(ModelError):
        _promote(registry, "b", alias)


def test_a_model_or_alias_that_is_not_there_is_told_with_the_nearest(registry: Registry) -> None:
    _promote(registry, "a", "production")
    with pytest.raises(ModelError, match="did you mean `production`"):
        _promote(registry, "prodution", "live")
    with pytest.raises(ModelError, match="no alias"):
        _rollback(registry, "nowhere")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(["a", "b", "c", "back"]), max_size=8),
    number=st.integers(0, 10**9),
)
def test_rolling_back_is_a_stack(registry: Registry, steps: list[str], number: int) -> None:
    alias = f"alias-{number}"
    with registry.reading() as session:
        stack: list[str] = []
        if alias in current_aliases(session):
            return
    for step in steps:
        if step != "back":
            _promote(registry, step, alias)
            if stack[-1:] != [step]:
                stack.append(step)
        elif len(stack) < 2:
            with pytest.raises(ModelError):
                _rollback(registry, alias)
        else:
            _rollback(registry, alias)
            stack.pop()
        if stack:
            assert _stands_for(registry, alias) == stack[-1]
    assert verify(registry)["sound"]


def _measure(registry: Registry, model: str, word: str) -> None:
    with registry.writing() as session:
        add_evaluation(session, model, verdict(word), None)


def test_only_what_the_gate_lets_through_is_promoted(registry: Registry, tmp_path: Path) -> None:
    register(registry, tmp_path / "d", "d", b"d")
    _measure(registry, "d", "hold")
    with pytest.raises(ModelError, match="its verdict is `hold`"):
        _promote(registry, "d", "gated")
    with registry.writing() as session:
        model = find_model(session, "d")
        promote(session, model, "gated", "a demo for the board", is_forced=True)
    _measure(registry, "d", "ship")
    with registry.reading() as session:
        (event,) = show_model(session, "gated")["aliases"]["gated"]
    # The verdict is the one of then.
    assert (event["action"], event["verdict"]) == ("force", "hold")
    assert event["reason"] == "a demo for the board"
    _promote(registry, "d", "gated-too")
    with pytest.raises(AssertionError, match="says why"), registry.writing() as session:
        promote(session, find_model(session, "d"), "live", None, is_forced=True)


def test_a_model_that_was_only_measured_alone_has_no_verdict(
    registry: Registry, tmp_path: Path
) -> None:
    with registry.writing() as session:
        base_hash = find_model(session, "a").base_hash
        add_model(session, "prompt", Bundle(base_hash, system_prompt="Be kind."))
        alone = {**verdict(), "verdict": None, "scores": {"model": {"score": 0.5}}}
        add_evaluation(session, "prompt", alone, None, rung="model")
    with pytest.raises(ModelError, match="never measured against its base"):
        _promote(registry, "prompt", "kind")
    with registry.reading() as session:
        listed = {each["name"]: each for each in list_models(session)}
    assert (listed["prompt"]["verdict"], listed["prompt"]["score"]) == (None, 0.5)
    assert listed["a"]["verdict"] == "ship"


def test_a_measurement_without_a_verdict_takes_none_away(registry: Registry) -> None:
    with registry.writing() as session:
        alone = {**verdict(), "verdict": None, "scores": {"model": {"score": 0.25}}}
        add_evaluation(session, "c", alone, None, rung="model")
    _promote(registry, "c", "still")
    with registry.reading() as session:
        found = lineage(session, "c")
    assert found["verdict"] == "ship"
    assert "  score           25.0%" in lineage_text(found)


def test_a_forced_promotion_is_rolled_back_like_any_other(registry: Registry) -> None:
    _promote(registry, "a", "forced")
    with registry.writing() as session:
        promote(session, find_model(session, "b"), "forced", "it ships", is_forced=True)
    with registry.reading() as session:
        # Forced in name only: the gate had said `ship`.
        assert [each.action for each in events_of(session, "forced")] == ["promote", "promote"]
    _rollback(registry, "forced")
    assert _stands_for(registry, "forced") == "a"
