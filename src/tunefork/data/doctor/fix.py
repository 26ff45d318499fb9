"""The safe remedies: repair text, mask what is private, drop what teaches nothing or twice.

Nothing is lost: each change is recorded with what stood there before, and `undo` brings the
original rows back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunefork.core.errors import DataError, RunError, UsageError, Where
from tunefork.core.files import write_text, writing
from tunefork.data._text import text_lines
from tunefork.data.doctor.answers import is_empty
from tunefork.data.doctor.duplicates import row_key
from tunefork.data.doctor.private import mask
from tunefork.data.doctor.rows import plain, row_of
from tunefork.data.doctor.text import repair_encoding, repair_whitespace
from tunefork.data.example import Row as AnyRow
from tunefork.data.read import scan_records
from tunefork.data.recognise import scan_rows

Fields = dict[str, Any]  # a row as read: any JSON values


@dataclass(frozen=True)
class Change:
    """One change: of a text, or the loss of a row.

    Attributes:
        row: Number of the row in the original file, from 1.
        code: Why.
        path: Where in the row the text stands, as keys and places; None where a row was dropped.
        before: The text, or the whole row; of a row that could not be read its line.
        after: The text as it is now; None where the row was dropped.
    """

    row: int
    code: str
    path: list[str | int] | None
    before: Any  # text, or any JSON value
    after: str | None


@dataclass(frozen=True)
class Fixed:
    """What became of a file: `total` = `kept` + the rows that were dropped."""

    rows: list[Fields]
    changes: list[Change]
    total: int

    @property
    def kept(self) -> int:
        """How many rows are left."""
        return len(self.rows)

    @property
    def dropped(self) -> int:
        """How many rows are gone."""
        return sum(change.path is None for change in self.changes)

    @property
    def counts(self) -> dict[str, int]:
        """Changes by code."""
        return dict(sorted(Counter(change.code for change in self.changes).items()))


def changes_path(out: Path) -> Path:
    """Return where the changes of a fixed file are recorded."""
    return out.with_name(f"{out.name}.changes.jsonl")


def fix_file(
    path: Path,
    mapping: Mapping[str, str] | None = None,
    measured: Mapping[str, Sequence[str]] | None = None,
) -> Fixed:
    """Return the rows of a file with all safe remedies applied.

    Args:
        path: The file.
        mapping: See `scan_rows`.
        measured: Questions that must not be trained on, by the code of the finding on them.

    Raises:
        SpecError: where the mapping is wrong.
        DataError: where the file as a whole cannot be read.
    """
    rows: list[tuple[int, Fields]] = []
    changes: list[Change] = []
    total = 0
    for number, found in enumerate(scan_records(path), start=1):
        total = number
        if isinstance(found, DataError):
            changes.append(Change(number, "unreadable", None, _line(found.where), None))
            continue
        rows.append((number, _repaired(found.fields, [], number, changes)))
    try:
        dropped = _to_drop(rows, mapping, measured or {})
    except DataError as error:  # it names the copy that was read
        raise DataError(
            error.message, where=path, hint=error.hint, details=error.details
        ) from error
    originals = {number: fields for number, fields in rows if number in dropped}
    # Of a row that goes, the changes to its text still are in the record: undone, it is as it was.
    changes += [
        Change(number, code, None, originals[number], None) for number, code in dropped.items()
    ]
    changes.sort(key=lambda change: (change.row, change.path is None))
    return Fixed([fields for number, fields in rows if number not in dropped], changes, total)


def write_fixed(fixed: Fixed, out: Path, source: Path) -> None:
    """Write the rows and the record of changes: both, or none of them.

    Raises:
        UsageError: where `out` is not to be written to.
        RunError: where it cannot be.
    """
    beside = changes_path(out)
    check_target(out, source)
    with writing(out):
        out.unlink(missing_ok=True)  # so that no record ever stands beside rows of another fix
    write_text(beside, "".join(_json(asdict(change)) + "\n" for change in fixed.changes))
    try:
        with writing(beside):
            beside.chmod(0o600)  # it holds what was masked
        write_text(out, "".join(_json(fields) + "\n" for fields in fixed.rows))
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def check_target(out: Path, source: Path) -> None:
    """Refuse to write over what is not ours.

    Raises:
        UsageError: where that is so.
    """
    if out.suffix.lower() != ".jsonl":
        raise UsageError(
            f"`--fix {out}`: the new file is JSON lines", hint="give it the ending `.jsonl`"
        )
    with writing(out):
        if out.exists() and source.exists() and out.samefile(source):
            raise UsageError(
                f"`--fix {out}` would write over the original", hint="name another file"
            )
        if out.exists() and not changes_path(out).is_file():
            raise UsageError(f"`--fix {out}`: there is such a file", hint="name a new file")


def undo(out: Path, changes: Path | None = None) -> list[Fields | str]:
    """Return the original rows of a fixed file, in their order.

    A row that could not be read is its line, as text.

    Raises:
        DataError: where a file cannot be read.
        RunError: where the record does not belong to the file.
    """
    changes = changes or changes_path(out)
    record = [Change(**json.loads(line)) for _, line in text_lines(changes) if line.strip()]
    kept = (json.loads(line) for _, line in text_lines(out) if line.strip())
    by_row: dict[int, list[Change]] = {}
    for change in record:
        by_row.setdefault(change.row, []).append(change)
    rows: list[Fields | str] = []
    last = max(by_row, default=0)
    while True:
        number = len(rows) + 1
        edits = by_row.get(number, [])
        gone = [edit for edit in edits if edit.path is None]
        row = gone[0].before if gone else next(kept, None)
        if row is None:
            if number <= last:
                raise RunError(
                    "the record of changes does not belong to this file",
                    where=changes,
                    hint="name the two files that one `--fix` wrote",
                )
            return rows
        for edit in reversed(edits):
            if edit.path is not None:
                row = _replaced(row, edit.path, edit.before)
        rows.append(row)


def _repaired(value: Any, path: list[str | int], row: int, changes: list[Change]) -> Any:
    """Return a JSON value with its texts repaired, and note each change."""
    if isinstance(value, str):
        for code, repaired in _remedies(value):
            changes.append(Change(row, code, path, value, repaired))
            value = repaired
        return value
    if isinstance(value, dict):
        return {key: _repaired(each, [*path, key], row, changes) for key, each in value.items()}
    if isinstance(value, list):
        return [_repaired(each, [*path, at], row, changes) for at, each in enumerate(value)]
    return value


def _remedies(text: str) -> Iterator[tuple[str, str]]:
    """Yield (code, text) of each remedy that changes a text, one after the other."""
    repaired = repair_encoding(text)
    if repaired != text:
        yield "encoding", repaired
    stripped = repair_whitespace(repaired)
    if stripped != repaired:
        yield "whitespace", stripped
    masked, codes = mask(stripped)
    if masked != stripped:
        yield codes[0] if len(set(codes)) == 1 else "+".join(sorted(set(codes))), masked


def _to_drop(
    rows: list[tuple[int, Fields]],
    mapping: Mapping[str, str] | None,
    measured: Mapping[str, Sequence[str]],
) -> dict[int, str]:
    """Return the numbers of rows that go, and why.

    They teach nothing, or what earlier rows teach, or what the model is measured by.
    """
    leak_of = {plain(text): code for code, texts in measured.items() for text in texts}
    seen: set[str] = set()
    verdicts: dict[int, list[str]] = {}  # several where a row holds several examples
    for number, found in _as_read(rows, mapping):
        verdict = "unreadable"
        if not isinstance(found, DataError):
            row = row_of(found, number)
            key = row_key(row)
            asked = (*row.asked, row.prompt)
            leaks = (code for text in asked if (code := leak_of.get(plain(text))))
            again = "duplicate.exact" if key in seen else ""
            verdict = "empty" if is_empty(row) else next(leaks, again)
            seen.add(key)
        verdicts.setdefault(number, []).append(verdict)
    return {number: found[0] for number, found in verdicts.items() if all(found)}


def _as_read(
    rows: list[tuple[int, Fields]], mapping: Mapping[str, str] | None
) -> Iterator[tuple[int, AnyRow | DataError]]:
    """Read rows again as they will be read from the new file: one on each line."""
    if not rows:
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_text(path, "".join(_json(fields) + "\n" for _, fields in rows))
        for found in scan_rows(path, mapping):
            line = found.where.line if found.where else None
            assert line, "rows of a JSON lines file know their line"
            yield rows[line - 1][0], found


def _replaced(value: Any, path: list[str | int], text: str) -> Any:
    """Return a JSON value with another text at one place."""
    if not path:
        return text
    key, *rest = path
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = _replaced(value[key], rest, text)
    return copy


def _line(where: Where | None) -> str:
    """Return the line of a row that cannot be read; nothing where its file has no such lines."""
    if where is None or where.line is None:
        return ""
    try:
        lines = text_lines(Path(where.file))
        return next((text.rstrip("\r\n") for line, text in lines if line == where.line), "")
    except DataError:
        return ""


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can hold
        text = json.dumps(value)
    return text
