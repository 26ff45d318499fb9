"""The split: near-duplicates stay on one side, labels keep their shares, order does not matter."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tunefork.core.errors import Where
from tunefork.data import Example, Message, group_rows, prompt_key, sketches, split
from tunefork.data.doctor.near import near_pairs
from tunefork.data.doctor.rows import row_of
from tunefork.data.near_groups import near_groups
from tunefork.data.shingles import jaccard, shingles
from tunefork.data.sketches import sketches_of

WORDS = [f"{a}{b}" for a in ("ba", "do", "ki", "lu", "me", "no") for b in ("ra", "st", "mp", "lk")]
Keys = NDArray[np.uint64]


def _examples(pairs: Sequence[tuple[str, str]]) -> list[Example]:
    return [
        Example((Message("user", asked), Message("assistant", said)), Where("rows.jsonl", line))
        for line, (asked, said) in enumerate(pairs, start=1)
    ]


def _grouped(pairs: Sequence[tuple[str, str]], seed: int = 0) -> tuple[Keys, str | None]:
    rows = _examples(pairs)
    prompts = np.array([prompt_key(row, seed) for row in rows], np.uint64)
    return group_rows(prompts, sketches_of(rows), np.arange(len(rows)))


def _edited(text: str, chance: random.Random) -> str:
    """Return the text with one word in ten another one."""
    found = text.split()
    for at in chance.sample(range(len(found)), max(1, len(found) // 10)):
        found[at] = chance.choice(WORDS)
    return " ".join(found)


def _with_edits(n_echoes: int, seed: int) -> list[tuple[str, str]]:
    """Return sound rows, some of which come again with a word or two changed."""
    chance = random.Random(seed)
    pairs = [
        (" ".join(chance.choices(WORDS, k=14)) + "?", " ".join(chance.choices(WORDS, k=25)))
        for _ in range(120)
    ]
    echoes = [(_edited(asked, chance), _edited(said, chance)) for asked, said in pairs[:n_echoes]]
    found = [*pairs, *echoes]
    chance.shuffle(found)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_no_pair_that_the_doctor_finds_straddles(seed: int) -> None:
    pairs = _with_edits(60, seed)
    rows = [row_of(row, number) for number, row in enumerate(_examples(pairs), start=1)]
    found = near_pairs(rows)
    assert len(found) >= 50, "the echoes are near-duplicates"
    keys, note = _grouped(pairs)
    assert note is None
    assert all(keys[pair.first] == keys[pair.second] for pair in found)
    held_out = set(split(keys, 0.2)[1].tolist())
    assert all((pair.first in held_out) == (pair.second in held_out) for pair in found)


def test_rows_of_which_only_one_part_is_alike_are_free() -> None:
    pairs = _with_edits(0, 0)
    same_answer = [(asked, "We open at eight every day but on Sundays.") for asked, _ in pairs]
    assert len(set(_grouped(same_answer)[0].tolist())) == len(pairs)
    nearly_asked = [(f"{pairs[0][0]} {WORDS[at]}", pairs[at][1]) for at in range(20)]
    assert len(set(_grouped(nearly_asked)[0].tolist())) == 20


def test_the_same_words_are_the_same_question_whatever_is_answered() -> None:
    keys, _ = _grouped(
        [
            ("Where does the old cat sleep?", "In a box."),
            *_with_edits(0, 0),
            ("where does the OLD cat sleep", "Nobody has ever seen it."),
        ]
    )
    assert keys[0] == keys[-1]
    assert len(set(keys.tolist())) == 121


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_groups_do_not_depend_on_the_order(chance: random.Random, seed: int) -> None:
    pairs = _with_edits(30, seed)
    keys, _ = _grouped(pairs)
    order = list(range(len(pairs)))
    chance.shuffle(order)
    again, _ = _grouped([pairs[at] for at in order])
    assert again.tolist() == keys[order].tolist()
    held_out = {pairs[at] for at in split(keys, 0.1)[1].tolist()}
    assert {pairs[order[at]] for at in split(again, 0.1)[1].tolist()} == held_out


def test_crowds_do_not_depend_on_the_order() -> None:
    """More rows share a band than are all compared."""
    start = "please translate the following short sentence into plain french for me and my friend"
    pairs = [(f"{start}: {a} {b}", f"{b} {a} {b} {a}") for a in WORDS for b in WORDS[:8]]
    rows = _examples(pairs)
    found, numbers = sketches_of(rows), np.arange(len(rows))
    prompts = np.array([prompt_key(row, 0) for row in rows], np.uint64)
    order = np.random.default_rng(0).permutation(len(rows))
    keys = near_groups(prompts, found, numbers)
    assert near_groups(prompts[order], found, order).tolist() == keys[order].tolist()
    assert near_groups(prompts[order], found[order], numbers).tolist() == keys[order].tolist()


def test_more_rows_mix_nothing_anew() -> None:
    chance = random.Random(0)
    pairs = [(" ".join(chance.choices(WORDS, k=14)), f"{at}") for at in range(600)]
    before = {pairs[at] for at in split(_grouped(pairs[:500])[0], 0.1)[1].tolist()}
    after = {pairs[at] for at in split(_grouped(pairs)[0], 0.1)[1].tolist()}
    # Of the old rows a fifth more may be held out, and hardly one that was comes back.
    assert len(before) == 50
    assert len(before - after) <= 5
    assert len((after & set(pairs[:500])) - before) <= 5


def test_a_chain_falls_back_to_the_same_prompts_and_says_so() -> None:
    base = " ".join(WORDS[:20])
    chain = [(f"{base} {WORDS[at % 24]}?", f"{base} {at}") for at in range(24)]
    others = _with_edits(0, 0)
    pairs = [*chain, *others[:60], (chain[0][0].upper(), "Something else entirely.")]
    keys, note = _grouped(pairs)
    assert note is not None
    assert "24 of 85 rows" in note or "25 of 85 rows" in note
    assert keys[0] == keys[-1]
    assert len(set(keys.tolist())) == len(pairs) - 1
    assert _grouped([*pairs, *others[60:]])[1] is None, "now it is no fifth of the rows"


def test_the_same_prompt_in_most_rows_is_no_chain() -> None:
    pairs = [("What is new?", f"{said} {at}") for at, (_, said) in enumerate(_with_edits(0, 0))]
    keys, note = _grouped([*pairs, *_with_edits(0, 1)[:10]])
    assert note is None
    assert len(set(keys.tolist())) == 11


def test_of_too_many_rows_only_the_same_prompts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sketches, "MOST_SKETCHED", 50)
    rows = _examples(_with_edits(60, 0))
    batches = [sketches_of(rows[at : at + 20], at) for at in range(0, len(rows), 20)]
    assert [len(batch) for batch in batches] == [20, 20, 10, *[0] * 6]
    found = np.concatenate(batches)
    prompts = np.array([prompt_key(row, 0) for row in rows], np.uint64)
    keys, note = group_rows(prompts, found, np.arange(len(rows)))
    assert keys is prompts
    assert note is not None
    assert "near-duplicates" in note
    assert group_rows(prompts[:50], found, np.arange(50))[1] is None


def test_sketches_estimate_what_texts_share() -> None:
    pairs = _with_edits(60, 1)
    found = sketches_of(_examples(pairs))
    chance = random.Random(0)
    errors = []
    for _ in range(300):
        one, other = chance.sample(range(len(pairs)), 2)
        true = [jaccard(shingles(pairs[one][at]), shingles(pairs[other][at])) for at in (0, 1)]
        wholes = [shingles(pairs[at][0]) | shingles(pairs[at][1]) for at in (one, other)]
        true.append(jaccard(*wholes))
        seen = (found[one] == found[other]).mean(axis=1)
        errors.append(seen - np.array(true))
    assert np.abs(np.mean(errors, axis=0)).max() < 0.04  # no more than the doubt allows
    assert np.abs(errors).max() < 0.25


# --- labels


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=2, max_size=120),
    st.floats(0.05, 0.6),
    st.randoms(use_true_random=False),
)
def test_labels_keep_their_shares(
    rows: list[tuple[int, str]], share: float, chance: random.Random
) -> None:
    keys = np.array([key for key, _ in rows], np.uint64)
    labels = np.array([label for _, label in rows])
    training, held_out = split(keys, share, labels=labels, minimum=1)
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(len(rows)))
    assert not set(keys[training].tolist()) & set(keys[held_out].tolist())
    order = list(range(len(rows)))
    chance.shuffle(order)
    again = split(keys[order], share, labels=labels[order], minimum=1)[1]
    assert sorted(order[at] for at in again.tolist()) == held_out.tolist()
    smallest = min(Counter(keys.tolist()).values())
    wanted = min(max(round(share * len(rows)), 1), len(rows) // 2)
    if len(held_out) > smallest:
        for label, count in Counter(labels.tolist()).items():
            quota = np.ceil(count * wanted / len(rows))
            assert np.count_nonzero(labels[held_out] == label) <= quota


def test_of_rows_of_their_own_each_label_gives_its_exact_share() -> None:
    labels = np.array(["rare"] * 20 + ["common"] * 180)
    keys = np.random.default_rng(0).integers(1 << 60, size=200).astype(np.uint64)
    held_out = split(keys, 0.1, labels=labels)[1]
    assert Counter(labels[held_out].tolist()) == {"rare": 2, "common": 18}
