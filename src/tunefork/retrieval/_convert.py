"""Other people's document formats as Markdown, HTML or plain text, by the libraries for each."""

from __future__ import annotations

import io
import logging
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from tunefork.core.errors import DataError, InputError

# Damaged files end in whatever a parser happens to stumble over; the libraries have no class for
# that.
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ExpatError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def html_as_markdown(html: str | bytes) -> str:
    """Return the readable part of a page as Markdown; bytes are read as the page says they are."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page = BeautifulSoup(html, "html.parser")
    for unread in page(["script", "style", "nav", "noscript", "template"]):
        unread.decompose()
    found: str = MarkdownConverter(heading_style="ATX").convert_soup(page.body or page)
    return found


def pdf_pages(path: Path) -> Iterator[str]:
    """Yield the text of each page.

    Raises:
        DataError: It is damaged, or asks for a password.
    """
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    # It tells of every oddity that it then reads over.
    logging.getLogger("pypdf").setLevel(logging.ERROR)
    content = _content(path)
    try:
        reader = PdfReader(content)
        is_locked = reader.is_encrypted and not reader.decrypt("")
        texts = [] if is_locked else [page.extract_text() for page in reader.pages]
    except (PyPdfError, *_DAMAGE) as error:
        raise _damaged(path, error) from error
    if is_locked:
        hint = "save a copy without one"
        raise DataError("the PDF asks for a password", where=path, hint=hint)
    yield from texts


def office_as_html(path: Path) -> str:
    """Return a Word document as HTML, headings as such.

    Raises:
        InputError: The library for it is not installed.
        DataError: It is damaged.
    """
    try:
        import mammoth
    except ImportError as error:
        raise InputError(
            "reading Word documents needs an extra part",
            where=path,
            hint="install it with `pip install 'tunefork[office]'`, or save the file as PDF",
        ) from error
    content = _content(path)
    try:
        return str(mammoth.convert_to_html(content).value)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def sheet_tables(path: Path) -> Iterator[tuple[str, str]]:
    """Yield each sheet's name and rows, a row as `column: value` pairs on one line.

    Raises:
        DataError: It is damaged.
    """
    from openpyxl import load_workbook

    content = _content(path)
    try:
        book = load_workbook(content, read_only=True, data_only=True)
        tables = [(str(sheet.title), "\n\n".join(_row_lines(sheet))) for sheet in book.worksheets]
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    yield from tables


def _content(path: Path) -> io.BytesIO:
    """Return a file's bytes, so that what fails from here on is its content."""
    return io.BytesIO(path.read_bytes())


def _row_lines(sheet: Any) -> Iterator[str]:
    names: list[str] | None = None
    for row in sheet.iter_rows(values_only=True):
        values = ["" if value is None else str(value).strip() for value in row]
        if not any(values):
            continue
        if names is None:  # the first row that says anything names the columns
            names = values
            if sum(map(bool, values)) == 1:
                names = None  # a title over the table
                yield next(filter(None, values))
            continue
        pairs = zip(names, values, strict=False)
        yield "; ".join(f"{name}: {value}" if name else value for name, value in pairs if value)


def _damaged(path: Path, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(
        f"the document is damaged: {reason}",
        where=path,
        hint="open it in the program it is of and save it again, or take it out of the folder",
    )
