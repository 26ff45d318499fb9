"""Passages are numbered in the prompt, and an answer's numbers lead back to them."""

from hypothesis import given
from hypothesis import strategies as st

from tunefork.retrieval import Chunk, cited, with_passages

_CHUNKS = [Chunk("It opens at nine.", "shop.md", ("Shop",)), Chunk("Call.", "leave.pdf", page=2)]


def test_the_prompt_holds_each_passage_with_its_number_and_place_then_the_question() -> None:
    prompt = with_passages("When does it open?", _CHUNKS)
    assert "[1] shop.md > Shop\nIt opens at nine.\n\n[2] leave.pdf, page 2\nCall." in prompt
    assert prompt.endswith("Question: When does it open?")


def test_citations_lead_back_to_passages_and_made_up_ones_are_told() -> None:
    assert cited("Nine [1]. Call [2][1], or [7].", _CHUNKS) == (_CHUNKS, [7])
    assert cited("I do not know.", _CHUNKS) == ([], [])


@given(st.lists(st.integers(0, 9), max_size=8))
def test_every_number_is_a_passage_or_made_up_once(numbers: list[int]) -> None:
    found, made_up = cited("".join(f"So [{number}]." for number in numbers), _CHUNKS)
    assert set(found) == {_CHUNKS[number - 1] for number in numbers if number in (1, 2)}
    assert sorted(made_up) == sorted(set(numbers) - {1, 2})
