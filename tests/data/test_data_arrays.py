"""Token arrays, the split, and the last look before training."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunefork.core.errors import DataError, SpecError, Where
from tunefork.data import (
    Example,
    Message,
    Preflight,
    Rendered,
    Renderer,
    TokenRows,
    facts_of,
    load_tokenizer,
    preflight,
    preview,
    prompt_key,
    split,
)


@st.composite
def _rendered(draw: st.DrawFn) -> list[Rendered]:
    rows = draw(
        st.lists(st.lists(st.tuples(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.5, 1.0]))))
    )
    return [Rendered([key for key, _ in row], [weight for _, weight in row]) for row in rows]


def _back(rows: TokenRows) -> list[Rendered]:
    return [Rendered(*(part.tolist() for part in rows.row(at))) for at in range(len(rows))]


@given(_rendered(), st.randoms(use_true_random=False))
def test_token_rows_round_trip(rendered: list[Rendered], chance: random.Random) -> None:
    rows = TokenRows.from_rendered(iter(rendered))
    kinds = [str(array.dtype) for array in (rows.ids, rows.weights, rows.offsets)]
    assert kinds == ["int32", "float32", "int64"]
    assert _back(rows) == rendered
    assert rows.lengths.tolist() == [len(row.ids) for row in rendered]
    chosen = [chance.randrange(-len(rendered), len(rendered)) for _ in rendered]
    assert _back(rows.select(chosen)) == [rendered[at] for at in chosen]
    everything = rows.select(list(range(len(rows))))
    assert everything.hash() == rows.hash()
    cut = len(rows) // 2
    parts = [rows.select(range(cut)), rows.select(range(cut, len(rows)))]
    assert TokenRows.concatenate(parts).hash() == rows.hash()


def test_token_rows_of_nothing() -> None:
    assert len(TokenRows.from_rendered([])) == 0
    assert len(TokenRows.concatenate([])) == 0
    assert TokenRows.concatenate([]).hash() == TokenRows.from_rendered([]).hash()


def test_hash_sees_ids_weights_and_boundaries() -> None:
    base = [Rendered([1, 2], [0.0, 1.0]), Rendered([3], [1.0])]
    others = [
        [Rendered([1, 9], [0.0, 1.0]), Rendered([3], [1.0])],
        [Rendered([1, 2], [0.0, 0.5]), Rendered([3], [1.0])],
        [Rendered([1], [0.0]), Rendered([2, 3], [1.0, 1.0])],
    ]
    hashes = [TokenRows.from_rendered(rows).hash() for rows in [base, *others]]
    assert len(set(hashes)) == 4
    assert hashes[0].startswith("sha256:")


def test_row_is_a_view() -> None:
    rows = TokenRows.from_rendered([Rendered([1, 2], [0.0, 1.0])])
    for view in (rows, rows.select([0]), TokenRows.concatenate([rows, rows]).select([1])):
        ids, weights = view.row(0)
        assert ids.base is rows.ids
        assert weights.base is rows.weights


@given(_rendered(), st.randoms(use_true_random=False))
def test_rows_chosen_and_joined_in_any_order_are_the_rows(
    rendered: list[Rendered], chance: random.Random
) -> None:
    numbers = [chance.randrange(len(rendered)) for _ in rendered] if rendered else []
    rows = TokenRows.from_rendered(rendered)
    joined = TokenRows.concatenate([rows.select(numbers), rows, rows.select(numbers[::2])])
    expected = [rendered[at] for at in [*numbers, *range(len(rendered)), *numbers[::2]]]
    assert _back(joined) == expected
    flat = TokenRows.from_rendered(expected)
    assert joined.hash() == flat.hash()
    assert joined.n_tokens == flat.n_tokens == len(joined.ids)
    assert joined.ids.tolist() == flat.ids.tolist()
    assert joined.weights.tolist() == flat.weights.tolist()
    assert joined.offsets.tolist() == flat.offsets.tolist()


def _example(question: str, answer: str, line: int = 1) -> Example:
    turns = (Message("user", question), Message("assistant", answer))
    return Example(turns, Where("rows.jsonl", line))


def _split(
    rows: list[Example], share: float, seed: int, **bounds: Any
) -> tuple[list[Example], list[Example]]:
    keys = np.array([prompt_key(row, seed) for row in rows], dtype=np.uint64)
    training, validation = split(keys, share, **bounds)
    return [rows[at] for at in training], [rows[at] for at in validation]


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=80),
    st.floats(0.01, 0.9),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_split_properties(
    questions: list[int], share: float, seed: int, chance: random.Random
) -> None:
    rows = [_example(f"question {number}", f"{at}") for at, number in enumerate(questions)]
    training, validation = _split(rows, share, seed, minimum=1)
    assert sorted(row.answer for row in training + validation) == sorted(row.answer for row in rows)
    held_out = {row.prompt for row in validation}
    assert not held_out & {row.prompt for row in training}
    if len(set(questions)) < 2:
        assert not validation
    else:
        assert training
        assert validation
        smallest = min(Counter(questions).values())
        assert len(validation) <= max(round(share * len(rows)), smallest, 1)
    shuffled = rows[:]
    chance.shuffle(shuffled)
    assert {row.prompt for row in _split(shuffled, share, seed, minimum=1)[1]} == held_out
    assert [row for row in rows if row.prompt in held_out] == validation


def test_split_bounds_and_seed() -> None:
    rows = [_example(f"question {at}", "x") for at in range(1000)]
    assert len(_split(rows, 0.1, 0)[1]) == 100
    assert len(_split(rows, 0.001, 0)[1]) == 8
    assert len(_split(rows, 0.1, 0, maximum=20)[1]) == 20
    assert _split(rows, 0.0, 0) == (rows, [])
    assert len(_split(rows[:6], 0.1, 0)[1]) == 3
    assert _split(rows, 0.1, 0)[1] != _split(rows, 0.1, 1)[1]
    assert len(_split([_example(" Hi", "x"), _example("hi ", "y")], 0.5, 0)[1]) == 0


def test_split_holds_out_what_it_always_did() -> None:
    """The same rows and seed hold the same rows out, so that measurements stay comparable."""
    rows = [_example(f"Question {at}?", "x") for at in range(40)]
    found = [row.messages[0].content.split()[1] for row in _split(rows, 0.1, 0)[1]]
    assert found == ["1?", "7?", "8?", "16?", "33?", "34?", "38?", "39?"]


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_split_refuses_a_wrong_share(share: float) -> None:
    with pytest.raises(SpecError) as caught:
        split(np.empty(0, np.uint64), share)
    assert caught.value.hint


def _render(examples: list[Example], renderer: Renderer) -> list[Rendered]:
    return [renderer.render(example) for example in examples]


def _check(examples: list[Example], renderer: Renderer, max_length: int) -> Preflight:
    rows = TokenRows.from_rendered(_render(examples, renderer))
    return preflight(facts_of(examples, rows, renderer), "rows.jsonl", renderer, max_length)


@pytest.fixture
def renderer(make_folder: Any) -> Renderer:
    return Renderer(load_tokenizer(make_folder("chatml_default_system")))


def test_preflight_counts_and_leaves_long_rows_out(renderer: Renderer) -> None:
    examples = [
        _example("Hi", "Hello", 1),
        _example("Hi", "Hello " * 200, 2),
        _example("A", "B", 3),
    ]
    found = _check(examples, renderer, 100)
    assert found.kept.tolist() == [0, 2]
    assert found.findings == ("1 row longer than 100 tokens, left out: rows.jsonl:2",)


def test_preflight_leaves_untrained_rows_out(renderer: Renderer) -> None:
    quiet = (Message("user", "Hi"), Message("assistant", "Hello", weight=0.0))
    examples = [_example("Hi", "Hello", 1), Example(quiet, Where("rows.jsonl", 2))]
    found = _check(examples, renderer, 100)
    assert found.kept.tolist() == [0]
    assert "without anything to train on" in found.findings[0]


def test_preflight_blocks_empty_answers_and_names_them(renderer: Renderer) -> None:
    examples = [_example("Hi", " \n" if line > 2 else "Hello", line) for line in range(1, 12)]
    with pytest.raises(DataError, match="9 rows with an empty answer") as caught:
        _check(examples, renderer, 100)
    assert str(caught.value.where) == "rows.jsonl:3"
    assert caught.value.details[0] == "also at rows.jsonl:4"
    assert caught.value.details[-1] == "... and 3 more"
    assert caught.value.hint


def test_preflight_blocks_nothing_to_train(renderer: Renderer) -> None:
    quiet = (Message("user", "Hi"), Message("assistant", "Hello", weight=0.0))
    examples = [Example(quiet, Where("rows.jsonl", 1))]
    with pytest.raises(DataError, match="nothing to train on") as caught:
        _check(examples, renderer, 100)
    assert caught.value.hint


def test_preflight_blocks_rows_that_are_all_too_long(renderer: Renderer) -> None:
    examples = [_example("Hi", "Hello " * 50, 1), _example("Hi", "Hello " * 40, 2)]
    rendered = _render(examples, renderer)
    with pytest.raises(DataError, match="every row is longer than 20 tokens") as caught:
        _check(examples, renderer, 20)
    assert str(caught.value.where) == "rows.jsonl:2"
    assert str(len(rendered[1].ids)) in str(caught.value.hint)


def test_preflight_blocks_an_end_that_is_never_trained(make_folder: Any) -> None:
    endless = Renderer(load_tokenizer(make_folder("role_tokens_end_turns", eos_token="<eos>")))
    examples = [_example("Hi", "Hello", 1)]
    with pytest.raises(DataError, match="end of the turn \\(`<eos>`\\) is never trained") as caught:
        _check(examples, endless, 100)
    assert "chat template" in str(caught.value.hint)
    more = (*examples[0].messages, Message("user", "Bye"))
    both = [*examples, Example(more, Where("rows.jsonl", 2))]
    ending = Renderer(
        dataclasses.replace(
            endless.tokenizer, eos_ids=frozenset(endless.tokenizer.encode("<|user|>"))
        )
    )
    found = _check(both, ending, 100)
    assert found.findings == ("1 row that do not train the end of the turn: rows.jsonl:1",)


def test_preflight_reports_all_at_once(renderer: Renderer) -> None:
    examples = [_example("Hi", "", 1)]
    with pytest.raises(DataError, match="empty answer") as caught:
        _check(examples, renderer, 2)
    assert any("every row is longer" in detail for detail in caught.value.details)


def test_preflight_reports_prompts_that_have_other_tokens_in_use(make_folder: Any) -> None:
    folder = make_folder(eos_token="<eos>")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + (eos_token if m.role == 'assistant'"
        " else '\\n') }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    spaced = Renderer(load_tokenizer(folder))
    examples = [_example("Hi", "Hello", 1)]
    found = _check(examples, spaced, 100)
    assert any("other tokens in use" in finding for finding in found.findings)


def test_preview_shows_every_character_once(renderer: Renderer) -> None:
    examples = [_example("é🐈", "日本 Hello 🐈")] * 5
    rendered = _render(examples, renderer)
    shown = preview(rendered, renderer.tokenizer, rows=2)
    assert len(shown) == 2
    assert "".join(text for text, _ in shown[0]) == renderer.template.render(
        [turn.as_template() for turn in examples[0].messages]
    )
    assert "".join(text for text, trained in shown[0] if trained) == "日本 Hello 🐈<|im_end|>"
