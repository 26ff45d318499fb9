"""Every kind of document becomes sections with headings; what cannot be read says why."""

import os
import sys
import zipfile
from pathlib import Path
from random import Random

import pytest

from tests.retrieval.papers import write_docx, write_pdf, write_xlsx
from tunefork.core.errors import DataError
from tunefork.core.events import Event, Warned
from tunefork.retrieval import build_index
from tunefork.retrieval import documents as documents_module
from tunefork.retrieval.documents import Section, find_documents, read_document


def _sections(path: Path) -> list[Section]:
    return list(read_document(path, path.parent).sections)


def test_markdown_is_cut_at_its_headings(tmp_path: Path) -> None:
    path = tmp_path / "leave.md"
    path.write_text(
        "---\ntitle: Leave\nkeywords: days\n---\nAsk.\n\n## Sick\nCall.\n\n"
        "```sh\n# no heading\n```\n### At night\nWrite.\n\nMoving\n---\nTwo days.\n"
    )
    assert _sections(path) == [
        Section("Ask.", ("Leave",)),
        Section("Call.\n\n```sh\n# no heading\n```", ("Leave", "Sick")),
        Section("Write.", ("Leave", "Sick", "At night")),
        Section("Two days.", ("Leave", "Moving")),
    ]


def test_template_tags_do_not_hide_headings_or_text(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        '{% alert "New" %}\nRead this.\n{% endalert %}\n\n## Chat\nAsk in {% channel "help" %}.\n'
    )
    first, second = _sections(path)
    assert "Read this." in first.text
    assert second == Section('Ask in {% channel "help" %}.', ("Chat",))


@pytest.mark.parametrize("text", ["---\nno end", "---\n[bad: yaml\n---\nText.", "---\n- a\n---\nb"])
def test_what_only_looks_like_front_matter_is_text_or_skipped(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.md"
    path.write_text(text)
    assert _sections(path)


def test_html_keeps_what_people_read(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    page = "<head><meta charset='latin-1'><style>p{}</style></head><nav>Menu</nav>"
    path.write_bytes(f"{page}<h1>Café</h1><p>Open <b>late</b>.</p>".encode("latin-1"))
    assert _sections(path) == [Section("Open **late**.", ("Café",))]


def test_text_may_be_utf16_and_have_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_bytes("Käse\r\nund Brot\r\n".encode("utf-16"))
    assert _sections(path) == [Section("Käse\nund Brot")]


def test_pdf_pages_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "form.pdf"
    write_pdf(path, ["First page", "", "Third page"])
    assert _sections(path) == [Section("First page", page=1), Section("Third page", page=3)]


def test_word_headings_are_headings(tmp_path: Path) -> None:
    path = tmp_path / "charter.docx"
    write_docx(path, "Team charter", "We meet on Mondays.")
    assert _sections(path) == [Section("We meet on Mondays.", ("Team charter",))]


def test_without_the_extra_word_documents_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_docx(tmp_path / "charter.docx", "Team charter", "We meet on Mondays.")
    (tmp_path / "a.md").write_text("Text.")
    monkeypatch.setitem(sys.modules, "mammoth", None)
    events: list[Event] = []
    assert list(build_index(tmp_path, sink=events.append).documents) == ["a.md"]
    (message,) = [event.message for event in events if isinstance(event, Warned)]
    assert "tunefork[office]" in message


def test_sheet_rows_name_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "risks.xlsx"
    write_xlsx(
        path, [["Our risks"], ["Risk", "Owner"], ["Flood", "Ann"], [None, None], ["Fire", 7]]
    )
    assert _sections(path) == [
        Section("Our risks\n\nRisk: Flood; Owner: Ann\n\nRisk: Fire; Owner: 7", ("Risks",))
    ]


def _bad(folder: Path) -> dict[str, str]:
    """Write documents that cannot be read; return what is said of each."""
    write_pdf(folder / "scan.pdf", ["", ""])
    write_pdf(folder / "locked.pdf", ["Secret"], password="pw")
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7\nnothing else")
    (folder / "noise.docx").write_bytes(b"not a zip")
    (folder / "noise.xlsx").write_bytes(b"not a zip")
    for name in ("hollow.docx", "hollow.xlsx"):
        with zipfile.ZipFile(folder / name, "w") as file:
            file.writestr("other.txt", "nothing of the kind")
    (folder / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    (folder / "empty.md").write_text("")
    (folder / "blank.txt").write_text(" \n\t\n")
    (folder / "title.md").write_text("---\ntitle: Only a title\n---\n")
    (folder / "bare.html").write_text("<script>x()</script>")
    (folder / "huge.txt").write_text("word " * 1000)
    no_text, damaged = "holds no text", "the document is damaged"
    return {
        "scan.pdf": "OCR",
        "locked.pdf": "password",
        "torn.pdf": damaged,
        "noise.docx": damaged,
        "noise.xlsx": damaged,
        "hollow.docx": damaged,
        "hollow.xlsx": damaged,
        "latin.txt": "not UTF-8 text (byte 2)",
        "empty.md": no_text,
        "blank.txt": no_text,
        "title.md": no_text,
        "bare.html": no_text,
        "huge.txt": "too large",
    }


def test_bad_documents_are_named_and_the_rest_is_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_module, "_MAX_BYTES", 4096)
    expected = _bad(tmp_path)
    (tmp_path / "good.md").write_text("# Shop\nIt opens at nine.\n")
    events: list[Event] = []
    index = build_index(tmp_path, sink=events.append)
    assert list(index.documents) == ["good.md"]
    said = [event.message for event in events if isinstance(event, Warned)]
    assert len(said) == len(expected)
    for name, words in expected.items():
        (message,) = [line for line in said if line.startswith(str(tmp_path / name))]
        assert words in message
        assert "\n" not in message


_WRITERS = {
    "a.pdf": lambda path: write_pdf(path, ["Some text", "More"]),
    "a.docx": lambda path: write_docx(path, "Title", "Some text."),
    "a.xlsx": lambda path: write_xlsx(path, [["A", "B"], [1, 2]]),
}


@pytest.mark.filterwarnings("ignore")  # of the parsers, on what they read over
@pytest.mark.parametrize("name", _WRITERS)
def test_damage_anywhere_ends_in_a_clear_error_or_in_text(tmp_path: Path, name: str) -> None:
    path, random = tmp_path / name, Random(4)
    _WRITERS[name](path)
    whole = path.read_bytes()
    n_errors = 0
    for _ in range(60):
        broken = bytearray(whole[: random.randrange(1, len(whole))] + whole[random.randrange(40) :])
        for _ in range(random.randrange(20)):
            broken[random.randrange(len(broken))] = random.randrange(256)
        path.write_bytes(broken)
        try:
            read_document(path, tmp_path)
        except DataError:
            n_errors += 1
    assert n_errors > 10


def test_a_folder_of_bad_documents_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("")
    with pytest.raises(DataError, match="no document could be read"):
        build_index(tmp_path)


@pytest.mark.parametrize("name", ["missing", "hollow"])
def test_a_folder_without_documents_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "hollow" / ".hidden").mkdir(parents=True)
    (tmp_path / "hollow" / ".hidden" / "a.md").write_text("Hidden.")
    (tmp_path / "hollow" / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError) as error:
        find_documents(tmp_path / name)
    assert error.value.hint


def test_links_in_circles_are_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "docs" / "inside"
    inside.mkdir(parents=True)
    (inside / "a.md").write_text("Text.")
    (inside / "up").symlink_to(tmp_path / "docs")
    (inside / "self.md").symlink_to(inside / "self.md")
    (inside / "gone.md").symlink_to(tmp_path / "nowhere.md")
    assert find_documents(tmp_path / "docs") == [inside / "a.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_document_that_may_not_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Text.")
    (tmp_path / "b.md").write_text("Secret.")
    (tmp_path / "b.md").chmod(0)
    assert list(build_index(tmp_path).documents) == ["a.md"]


def test_one_document_may_be_named_instead_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "faq.md"
    path.write_text("# Shop\nIt opens at nine.\n")
    (hit,) = build_index(path).search("when does it open?")
    assert hit.chunk.place == "faq.md > Shop"
