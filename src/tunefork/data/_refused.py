"""Kinds of files that hold no rows we read: what each is called, and what to do instead."""

from __future__ import annotations

from pathlib import Path

from tunefork.core.errors import DataError

_UNPACK = "unpack it, and name a file or folder that came out of it"
_EXPORT = "export the rows as CSV or JSON"
_DOCUMENT = "save it as plain text (.txt), or write question and answer rows about it"
_SENTENCE = 'write each sentence as one row: {"user": SENTENCE, "assistant": "person: Ann"}'
_MODEL = "this is (part of) a model; name a file with rows"

_REFUSED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (".zip", ".tar", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".lzma"), ("packed files", _UNPACK)
    ),
    ".xml": ("XML", f"{_EXPORT}; every question and its answer becomes one row"),
    **dict.fromkeys((".html", ".htm"), ("HTML", _DOCUMENT)),
    ".pdf": ("PDF", _DOCUMENT),
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".epub"), ("a document", _DOCUMENT)),
    **dict.fromkeys((".xls", ".xlsb", ".ods"), ("an older or other workbook", "save it as .xlsx")),
    **dict.fromkeys(
        (".conll", ".conllu", ".iob", ".bio", ".annotated"),
        ("one word and its tag on each line (CoNLL)", _SENTENCE),
    ),
    **dict.fromkeys(
        (".arrow", ".feather", ".orc", ".avro", ".db", ".sqlite", ".sqlite3", ".pkl", ".npy"),
        ("binary tables", "export the rows as Parquet, CSV or JSON lines"),
    ),
    **dict.fromkeys((".yaml", ".yml", ".toml"), ("settings", "write the rows as JSON lines")),
    **dict.fromkeys((".safetensors", ".gguf", ".bin", ".pt", ".pth"), ("weights", _MODEL)),
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".gif", ".mp3", ".wav", ".mp4"),
        ("pictures or sound", "only text is read so far"),
    ),
}


def refused(path: Path, end: str) -> DataError | None:
    """Return why a file with this ending is not read, or None where nothing is known of it."""
    found = _REFUSED.get(end)
    if found is None:
        return None
    what, hint = found
    return DataError(f"files like this are not read: {what} (`{end}`)", where=path, hint=hint)
