"""Every word of a document is in one chunk, and no chunk is over the limit."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tunefork.retrieval.chunks import Chunk, chunks_of
from tunefork.retrieval.documents import Document, Section

_TEXTS = st.text(alphabet="abc .!?\n\t-é#{%}", max_size=300)
_SECTIONS = st.builds(
    Section,
    _TEXTS,
    st.lists(st.sampled_from(["Aims", "Old rules", "Zoo"]), max_size=3).map(tuple),
    st.sampled_from([None, None, 1, 2]),
)


def _document(*sections: Section) -> Document:
    return Document("guides/leave.md", "sha256:0", sections)


@given(st.lists(_SECTIONS, max_size=8), st.integers(1, 40))
def test_every_word_is_in_one_chunk_in_order(sections: list[Section], words: int) -> None:
    chunks = chunks_of(_document(*sections), words)
    headings = {word for section in sections for word in " > ".join(section.headings).split()}
    kept = [word for chunk in chunks for word in chunk.text.split() if word not in headings]
    given = [word for section in sections for word in section.text.split()]
    assert kept == [word for word in given if word not in headings]


@given(st.lists(_SECTIONS, max_size=8), st.integers(1, 40))
def test_no_chunk_is_over_the_limit_or_empty(sections: list[Section], words: int) -> None:
    for chunk in chunks_of(_document(*sections), words):
        assert 1 <= len(chunk.text.split()) <= words


@given(st.lists(_SECTIONS, max_size=8))
def test_a_chunk_is_of_one_page(sections: list[Section]) -> None:
    chunks = chunks_of(_document(*sections))
    pages = [section.page for section in sections if section.text.strip()]
    assert Counter(chunk.page for chunk in chunks).keys() == Counter(pages).keys()


def test_small_neighbours_share_a_chunk_under_their_common_headings() -> None:
    document = _document(
        Section("Ask first.", ("Leave",)),
        Section("Call at eight.", ("Leave", "Sick", "How")),
        Section("Two days.", ("Leave", "Moving")),
    )
    assert chunks_of(document) == [
        Chunk(
            "Ask first.\n\nSick > How\nCall at eight.\n\nMoving\nTwo days.",
            "guides/leave.md",
            ("Leave",),
        )
    ]
    assert [chunk.headings for chunk in chunks_of(document, words=6)] == [
        ("Leave",),
        ("Leave", "Sick", "How"),
        ("Leave", "Moving"),
    ]


def test_long_paragraphs_are_cut_between_sentences_and_lists_between_items() -> None:
    prose = _document(Section("One two three. Four five six? Seven."))
    assert [chunk.text for chunk in chunks_of(prose, 4)] == [
        "One two three.",
        "Four five six? Seven.",
    ]
    items = _document(Section("- one two\n- three four\n- five six"))
    assert [chunk.text for chunk in chunks_of(items, 6)] == ["- one two - three four", "- five six"]


def test_a_chunk_says_where_it_stands() -> None:
    assert Chunk("…", "leave.md", ("Leave", "Sick")).place == "leave.md > Leave > Sick"
    assert Chunk("…", "form.pdf", page=2).place == "form.pdf, page 2"
    assert Chunk("Text.", "new_york/sick-leave.md", ("Title",)).indexed == (
        "new york/sick-leave\nTitle\nText."
    )
