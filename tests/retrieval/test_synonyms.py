"""A page is found by another word for what it says, and still best by its own."""

from pathlib import Path

import pytest

from tunefork.retrieval import build_index
from tunefork.retrieval.synonyms import alternatives
from tunefork.retrieval.words import every_word

_PAGES = {
    "leave.md": "# Annual leave\nEvery employee earns annual leave each month.\n",
    "chain.md": "# Reporting\nYour supervisor signs the form that you hand in.\n",
    "cheese.md": "# Cheese\nThe cheese is in the cellar, with the wine and the bread.\n",
}


def test_a_page_is_found_by_another_name(tmp_path: Path) -> None:
    for name, text in _PAGES.items():
        (tmp_path / name).write_text(text)
    index = build_index(tmp_path)
    assert index.search("who is my boss?")[0].chunk.source == "chain.md"
    assert index.search("how much vacation do I get?")[0].chunk.source == "leave.md"
    assert index.search("zebra") == []


def test_its_own_word_counts_more_than_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("The supervisor signs the form here.")
    (tmp_path / "b.md").write_text("The boss signs the form here.")
    index = build_index(tmp_path)
    found = {hit.chunk.source: hit.score for hit in index.search("boss")}
    assert found["a.md"] == pytest.approx(0.6 * found["b.md"])


def test_several_words_are_one_name_and_all_of_them_are_needed() -> None:
    found = alternatives(every_word("Can I work from home on Fridays?", "en"), "en")
    assert ("telework",) in found["work", "from", "home"]
    assert ("work", "from", "home") not in found["work", "from", "home"]


def test_other_languages_are_left_as_they_are() -> None:
    assert alternatives(["boss", "vacat"], "de") == {}


def test_names_for_one_thing_point_both_ways() -> None:
    for term, others in alternatives(every_word("boss vacation laptop pay", "en"), "en").items():
        for other in others:
            assert term in alternatives(other, "en")[other]
