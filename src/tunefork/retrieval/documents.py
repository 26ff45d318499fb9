"""Read documents of any common kind as Markdown sections with their headings.

Everything becomes Markdown first, so that one piece of code finds headings and one cuts chunks.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from tunefork.core.errors import DataError
from tunefork.core.hashing import hash_file
from tunefork.retrieval._convert import html_as_markdown, office_as_html, pdf_pages, sheet_tables

_MAX_BYTES = 100 << 20  # larger ones are data, not something that people read
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class Section:
    """A stretch of one document under one heading."""

    text: str  # Markdown
    headings: tuple[str, ...] = ()  # from the document's title down to its own
    page: int | None = None  # of a PDF, from 1


@dataclass(frozen=True)
class Document:
    """One file, as text."""

    source: str  # its path, relative to the folder that was read; with `/` on every system
    hash: str
    sections: tuple[Section, ...]


def find_documents(folder: Path) -> list[Path]:
    """Return every file that can be read, in the order of its path.

    Hidden files and folders are passed over. A single file may be named as well.

    Raises:
        DataError: There is no such folder, or nothing in it that can be read.
    """
    if not folder.exists():
        raise DataError(
            "there is no such folder of documents", where=folder, hint="check `data.documents`"
        )
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    found = [path for path in paths if path.is_file() and _is_readable(path, folder)]
    if not found:
        raise DataError(
            "no document in this folder can be read",
            where=folder,
            hint=f"put files of these kinds there: {', '.join(sorted(_READERS))}",
        )
    return found


def read_document(path: Path, folder: Path) -> Document:
    """Read one file of a folder.

    Raises:
        DataError: It is damaged, of another kind than its name says, or holds no text.
    """
    try:
        n_bytes = path.stat().st_size
        if n_bytes > _MAX_BYTES:
            raise DataError(
                f"the document is too large: {n_bytes >> 20} MB (at most {_MAX_BYTES >> 20})",
                where=path,
                hint="cut it into several files",
            )
        read = _READERS[path.suffix.lower()](path)
        sections = tuple(section for section in read if _WORD.search(section.text))
    except UnicodeDecodeError as error:
        raise DataError(
            f"not {error.encoding.upper()} text (byte {error.start})",
            where=path,
            hint="save it as UTF-8",
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot read the document: {error.strerror or error}",
            where=path,
            hint="check that you may read it",
        ) from error
    if not sections:
        raise DataError("the document holds no text", where=path, hint=_NO_TEXT[_is_pdf(path)])
    return Document(source_of(path, folder), hash_file(path), sections)


def source_of(path: Path, folder: Path) -> str:
    """Return the name that a document goes by in citations."""
    return path.name if path == folder else path.relative_to(folder).as_posix()


_NO_TEXT = {
    True: "it may be scanned pages: run text recognition (OCR) over it first",
    False: "take it out of the folder, or write something into it",
}


def _is_pdf(path: Path) -> bool:
    return path.suffix.lower() == ".pdf"


def _is_readable(path: Path, folder: Path) -> bool:
    parts = (path.name,) if path == folder else path.relative_to(folder).parts
    return path.suffix.lower() in _READERS and not any(part.startswith(".") for part in parts)


def _markdown_file(path: Path) -> Iterator[Section]:
    yield from _sections(_text(path))


def _html_file(path: Path) -> Iterator[Section]:
    yield from _sections(html_as_markdown(path.read_bytes()))


def _word_file(path: Path) -> Iterator[Section]:
    yield from _sections(html_as_markdown(office_as_html(path)))


def _pdf_file(path: Path) -> Iterator[Section]:
    for number, text in enumerate(pdf_pages(path), start=1):
        yield Section(text.strip(), page=number)


def _sheet_file(path: Path) -> Iterator[Section]:
    for name, text in sheet_tables(path):
        yield Section(text, headings=(name,))


def _text_file(path: Path) -> Iterator[Section]:
    yield Section(_text(path).strip())


def _text(path: Path) -> str:
    raw = path.read_bytes()
    is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    return "\n".join(text.splitlines())


_READERS: dict[str, Callable[[Path], Iterator[Section]]] = {
    ".md": _markdown_file,
    ".markdown": _markdown_file,
    ".txt": _text_file,
    ".html": _html_file,
    ".htm": _html_file,
    ".pdf": _pdf_file,
    ".docx": _word_file,
    ".xlsx": _sheet_file,
}


def _sections(text: str) -> Iterator[Section]:
    """Cut Markdown at its headings (CommonMark: those inside code are none)."""
    title, body = _front_matter(text)
    lines = body.splitlines()
    path = [title] if title else []
    levels = [0] if title else []
    begin = 0
    tokens = MarkdownIt().parse(body)
    for at, token in enumerate(tokens):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        first, behind = token.map
        yield Section("\n".join(lines[begin:first]).strip(), tuple(path))
        level = int(token.tag[1:])
        while levels and levels[-1] >= level:
            levels.pop()
            path.pop()
        levels.append(level)
        path.append(tokens[at + 1].content.strip())
        begin = behind
    yield Section("\n".join(lines[begin:]).strip(), tuple(path))


def _front_matter(text: str) -> tuple[str | None, str]:
    """Return the title that YAML before the text gives it, and the text."""
    if not text.startswith("---\n"):
        return None, text
    head, mark, body = text[4:].partition("\n---")
    if not mark:
        return None, text
    try:
        values = yaml.safe_load(head)
    except yaml.YAMLError:  # a text that happens to begin with a rule
        return None, text
    title = values.get("title") if isinstance(values, dict) else None
    return (str(title) if title else None), body.partition("\n")[2]
