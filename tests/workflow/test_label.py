"""Labelling without a terminal: nothing decided is lost, sides are hidden, the set can be used."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.projects import write_lines
from tests.small import save_model
from tunefork.core.errors import InputError, TuneforkError
from tunefork.core.events import Noted, no_sink
from tunefork.data.example import Preference
from tunefork.data.recognise import scan_kind
from tunefork.registry import open_registry, show_dataset
from tunefork.workflow.label import (
    OWNER,
    Session,
    Terms,
    agreement,
    export,
    make_terms,
    open_session,
    propose,
    record,
)
from tunefork.workflow.label_log import log_of

_PAIRS = [
    {
        "question": f"who is {name}?",
        "answers": [{"model": "a", "text": f"{name} is a cat"}, {"model": "b", "text": "no idea"}],
    }
    for name in ("ann", "ben", "cid", "dot", "eve", "fay", "gus", "hal")
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "work" / "answers.jsonl", _PAIRS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    first, second = (save_model("llama", folder / str(seed), seed) for seed in (0, 1))
    return str(first), str(second)


def _open(source: Path, out: str = "pairs.jsonl", **terms: Any) -> Session:
    return open_session(source, source.with_name(out), Terms(**{"rater": "ann", **terms}), no_sink)


def _choose_all(session: Session, prefers: str) -> None:
    """Always choose the answer of one model."""
    while proposal := propose(session):
        record(session, proposal, "left" if proposal.left.model == prefers else "right")


def _prompts(path: Path, n: int) -> Path:
    return write_lines(path, [{"question": f"who is {'abcdefghijkl'[at]}?"} for at in range(n)])


def test_a_voice_that_fits_is_not_told_apart(tmp_path: Path) -> None:
    rows = [
        {
            "question": f"who is {at}?",
            "answers": [
                {"model": OWNER, "text": f"{at} naps"},
                {"model": "m", "text": f"{at} nap"},
            ],
        }
        for at in range(20)
    ]
    session = _open(write_lines(tmp_path / "answers.jsonl", rows))
    assert export(session, no_sink)["told_apart"] is None
    while proposal := propose(session):
        is_found = proposal.prompt[0].content in [f"who is {at}?" for at in range(0, 20, 2)]
        chosen = OWNER if is_found else "m"
        record(session, proposal, "left" if proposal.left.model == chosen else "right")
    told = export(session, no_sink)["told_apart"]
    assert (told["right"], told["of"], told["is_recognised"]) == (10, 20, False)
    assert told["low"] < 0.5 < told["high"]


def test_the_set_is_read_as_preferences(pairs: Path) -> None:
    session = _open(pairs)
    _choose_all(session, "a")
    summary = export(session, no_sink)
    assert (summary["pairs"], summary["open"], summary["wins"]) == (8, 0, {"a": 8})
    rows = list(scan_kind(session.out, "preference"))
    assert len(rows) == 8
    for row, given in zip(rows, _PAIRS, strict=True):
        assert isinstance(row, Preference)
        assert row.prompt[0].content == given["question"]
        assert row.chosen[0].content.endswith("is a cat")
        assert row.rejected[0].content == "no idea"
    assert json.loads(session.out.read_text().splitlines()[0]).keys() == {
        "input",
        "preferred_output",
        "non_preferred_output",
    }


def test_sides_are_shuffled_by_seed_and_item(pairs: Path) -> None:
    found: list[list[str]] = []
    for seed in (0, 0, 1):
        session = _open(pairs, f"{len(found)}.jsonl", seed=seed)
        _choose_all(session, "a")
        found.append([decision.choice for decision in session.history])
    assert found[0] == found[1] != found[2]
    assert set(found[0]) == {"left", "right"}


def test_versions_have_parents(pairs: Path) -> None:
    session = _open(pairs)
    for _ in range(2):  # a second sitting makes a second version
        for _ in range(4):
            proposal = propose(session)
            assert proposal is not None
            record(session, proposal, "left")
        summary = export(session, no_sink)
    assert summary["versions"] == {
        "source": "work/answers@1",
        "decisions": "work/pairs.decisions@2",
        "pairs": "work/pairs@2",
    }
    assert export(session, no_sink)["versions"] == summary["versions"]
    with open_registry() as registry, registry.reading() as database:
        shown = show_dataset(database, "work/pairs@2")
        decisions = show_dataset(database, "work/pairs.decisions@2")
    assert shown["parent"] == "work/pairs.decisions@2"
    assert decisions["parent"] == "work/answers@1"


def test_every_kind_of_choice(pairs: Path) -> None:
    write_lines(pairs, [*_PAIRS[:5], {"question": "same?", "answers": ["x", "x"]}, _PAIRS[0]])
    told: list[Any] = []
    session = open_session(pairs, pairs.with_name("pairs.jsonl"), Terms("ann"), told.append)
    assert told == [Noted("1 rows that repeat others are left out")]
    chosen = []
    for choice in ("left", "right", "tie", "bad", "skip"):
        proposal = propose(session)
        assert proposal is not None
        edited = "written by hand" if choice == "right" else None
        chosen.append(record(session, proposal, choice, edited))
    assert propose(session) is None  # both answers of the last one are the same
    summary = export(session, no_sink)
    assert set(summary["counts"].values()) == {1}
    assert (summary["pairs"], summary["edited"]) == (2, 1)
    rows = list(scan_kind(session.out, "preference"))
    assert isinstance(rows[1], Preference)
    assert rows[1].chosen[0].content == "written by hand"
    assert rows[1].rejected[0].content == chosen[1].proposal.left.text
    assert session.history == chosen


def test_a_decision_made_anew_replaces_the_first(pairs: Path) -> None:
    session = _open(pairs)
    _choose_all(session, "a")
    before = session.history[2]
    record(session, before.proposal, "tie")
    again = _open(pairs)
    assert [each.choice for each in again.history][2] == "tie"
    assert export(again, no_sink)["pairs"] == 7
    assert len(log_of(again.out).read_text().splitlines()) == 9


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_goes_on_where_it_stopped(pairs: Path, seed: int) -> None:
    """Whatever part of the last line reached the disk: whole lines count, the rest is dropped."""
    session = _open(pairs)
    _choose_all(session, "b")
    whole = log_of(session.out).read_bytes()
    for cut in random.Random(seed).sample(range(1, len(whole)), 4):
        log_of(session.out).write_bytes(whole[:cut])
        again = _open(pairs)
        assert len(again.decisions) == whole[:cut].count(b"\n")
        assert again.n_open == 8 - len(again.decisions)
        _choose_all(again, "b")
        assert log_of(again.out).read_bytes() == whole


def test_models_answer_the_same_after_a_kill(tmp_path: Path, models: tuple[str, str]) -> None:
    prompts = _prompts(tmp_path / "prompts.jsonl", 10)  # two blocks
    terms: dict[str, Any] = {"models": models, "temperature": 1.0}
    session = _open(prompts, **terms)
    _choose_all(session, models[0])
    session.close()
    again = _open(prompts, "again.jsonl", **terms)
    for _ in range(3):
        proposal = propose(again)
        assert proposal is not None
        record(again, proposal, "tie")
    again.close()
    again = _open(prompts, "again.jsonl", **terms)
    _choose_all(again, models[0])
    again.close()
    both = [[each.proposal for each in one.history] for one in (session, again)]
    assert both[0] == both[1]
    assert {each.left.model for each in both[0]} == set(models)
    assert sum(export(again, no_sink)["wins"].values()) == 7


def test_one_model_samples_twice(tmp_path: Path, models: tuple[str, str]) -> None:
    prompts = _prompts(tmp_path / "prompts.jsonl", 3)
    session = _open(prompts, models=(models[0], models[0]), temperature=1.0)
    proposal = propose(session)
    session.close()
    assert proposal is not None
    assert proposal.left.text != proposal.right.text
    assert proposal.left.model == proposal.right.model == models[0]
    assert export(session, no_sink)["wins"] == {}


def test_prompts_come_in_many_shapes(tmp_path: Path, models: tuple[str, str]) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "one"},
        {"user": "two", "assistant": "an answer"},
        {"messages": [{"role": "user", "content": "three"}]},
        {
            "messages": [
                {"role": "user", "content": "four"},
                {"role": "assistant", "content": "an answer"},
            ]
        },
    ]
    lines = tmp_path / "prompts.txt"
    lines.write_text("one\n\ntwo\nthree\nfour\n", encoding="utf-8")
    for source in (write_lines(tmp_path / "prompts.jsonl", rows), lines):
        session = _open(source, f"{source.suffix[1:]}-out.jsonl", models=models)
        session.close()
        asked = [item.prompt[-1].content for item in session.items]
        assert asked == ["one", "two", "three", "four"]


def test_raters_agree_whatever_side_they_saw(pairs: Path) -> None:
    for rater, seed in (("ann", 0), ("ben", 1)):
        session = _open(pairs, f"{rater}.jsonl", rater=rater, seed=seed)
        _choose_all(session, "a")
        proposal = session.history[0].proposal
        if rater == "ben":
            record(session, proposal, "bad")
        export(session, no_sink)
    found = agreement([pairs.with_name("ann.jsonl"), log_of(pairs.with_name("ben.jsonl"))])
    assert (found["raters"], found["pairs"]) == (["ann", "ben"], 8)
    assert found["agreement"]["mean"] == 7 / 8
    assert found["kappa"]["low"] < found["kappa"]["mean"] < 1
    (one,) = found["disagreements"]
    assert one == {
        "prompt": "who is ann?",
        "choices": {
            "ann": {"choice": "better", "answer": "ann is a cat"},
            "ben": {"choice": "bad", "answer": None},
        },
    }


def test_three_raters_with_gaps(pairs: Path) -> None:
    paths = []
    for at, n in enumerate((8, 5, 3)):
        session = _open(pairs, f"{at}.jsonl")  # all of one name: called by their files
        for number in range(n):
            proposal = propose(session)
            assert proposal is not None
            record(session, proposal, "tie" if number == 1 else "left")
        paths.append(session.out)
    found = agreement(paths)
    assert (found["pairs"], found["kappa"], found["disagreements"]) == (5, None, [])
    assert found["alpha"]["mean"] == 1
    assert found["raters"] == [str(path) for path in paths]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the file is empty"),
        ([{"question": "", "answers": ["x", "y"]}], "holds no prompt"),
        ([{"question": "q", "answers": ["x"]}], "must be a list of two"),
        ([{"question": "q", "answers": ["x", {"model": "b"}]}], "answers[1].text"),
        ([{"question": "q", "answers": ["x", "y"]}, {"question": "q"}], "must be a list of two"),
        ([{"messages": [], "answers": ["x", "y"]}], "no prompt"),
        (
            [{"messages": [{"role": "system", "content": "s"}], "answers": ["x", "y"]}],
            "asks nothing",
        ),
        ([{"user": "q", "assistant": "a"}], "no two answers"),
    ],
)
def test_bad_pairs(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    source = write_lines(tmp_path / "answers.jsonl", rows)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        _open(source)
    assert caught.value.hint


def test_bad_edits_and_choices(pairs: Path) -> None:
    session = _open(pairs)
    proposal = propose(session)
    assert proposal is not None
    bad = [
        ("left", "  "),
        ("left", proposal.right.text),
        ("tie", "x"),
        ("best", None),
        ("same", None),
    ]
    for choice, edited in bad:
        with pytest.raises(InputError):
            record(session, proposal, choice, edited)  # type: ignore[arg-type]
    assert not log_of(session.out).exists()
    assert record(session, proposal, "left", proposal.left.text).edited is None


def test_another_session_is_not_mixed_in(pairs: Path) -> None:
    session = _open(pairs)
    _choose_all(session, "a")
    export(session, no_sink)
    with pytest.raises(TuneforkError, match="rater `ann`, and here `ben`"):
        _open(pairs, rater="ben")
    with pytest.raises(TuneforkError, match="models none, and here `a` and `b`"):
        _open(pairs, models=("a", "b"))
    log_of(session.out).unlink()
    with pytest.raises(TuneforkError, match="was not made by"):
        _open(pairs)


def test_terms_that_compare_nothing() -> None:
    for models, temperature in ((["a"], None), (["a", "a"], 0.0), (["a", "b", "c"], None)):
        with pytest.raises(TuneforkError):
            make_terms("ann", 0, models, temperature)
    with pytest.raises(TuneforkError, match="name is empty"):
        make_terms(" ", 0, [], None)


def test_damaged_decisions_are_refused_in_words(pairs: Path) -> None:
    session = _open(pairs)
    _choose_all(session, "a")
    lines = log_of(session.out).read_text(encoding="utf-8").splitlines()
    fields = json.loads(lines[3])
    n_refused = 0
    values: list[Any] = [7, [], {}, [7], "x"]
    for key in fields:
        for value in values:
            if isinstance(value, type(fields[key])):
                continue
            if isinstance(value, str) and key == "edited":
                continue
            lines[3] = json.dumps({**fields, key: value})
            log_of(session.out).write_text("\n".join(lines) + "\n", encoding="utf-8")
            with pytest.raises(InputError) as caught:
                agreement([session.out, session.out])
            assert (caught.value.where and caught.value.where.line) == 4
            n_refused += 1
    assert n_refused > 30
    log_of(session.out).write_bytes(random.Random(0).randbytes(400) + b"\n")
    with pytest.raises(InputError):
        _open(pairs)
