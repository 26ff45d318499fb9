"""`check` and `select`: what is wrong with data, what can be mended, which rows teach most."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import DataError, UsageError
from tunefork.core.events import Progress, Sink
from tunefork.core.files import write_text, writing
from tunefork.data.doctor import (
    Context,
    Finding,
    Rows,
    Tokens,
    changes_path,
    count_tokens,
    examine,
    fix_file,
    read_rows,
    select_rows,
    write_fixed,
    write_page,
)
from tunefork.data.doctor.fix import check_target
from tunefork.data.read import scan_records

_LONGEST_ROW = 2048  # tokens, as in training, where the base takes longer rows
# Where a real input may stand in its row, the likeliest first.
_ASKED = ("question", "prompt", "user", "instruction", "text", "input", "query", "message")


@dataclass(frozen=True)
class Against:
    """What a file is held against: other files, and a base.

    Attributes:
        validation: Rows that measure the training.
        golden: Questions that decide on the result.
        inputs: What users really ask: rows, or a text file with one on each line.
        base: The base to be tuned; None to count no tokens.
    """

    validation: Path | None = None
    golden: Path | None = None
    inputs: Path | None = None
    base: str | None = "tiny"


@dataclass(frozen=True)
class Checked:
    """What was found, and what `--json` prints of it."""

    result: dict[str, Any]
    findings: list[Finding]

    @property
    def is_sound(self) -> bool:
        """Whether nothing found is an error."""
        return not any(found.severity == "error" for found in self.findings)


def check(
    path: Path,
    *,
    mapping: Mapping[str, str] | None,
    against: Against,
    fix: Path | None = None,
    report: Path | None = None,
    sink: Sink,
) -> Checked:
    """Examine a file; with `fix` write a mended one, with `report` a page.

    Raises:
        InputError: A file or the base cannot be used.
        UsageError: `fix` is not to be written to.
    """
    if fix is not None:
        check_target(fix, path)
    _refuse_input(report, path, "--report")
    context = _context(path, mapping, against, sink)
    read, findings = context.read, examine(context, sink)
    result: dict[str, Any] = {
        "file": str(path),
        "rows": read.total,
        "format": read.format,
        "findings": [found.as_dict() for found in findings],
    }
    if fix is not None:
        measured = {
            "leak.validation": [row.prompt for row in context.validation],
            "leak.golden": context.golden,
        }
        result["fixed"] = _fix(path, mapping, measured, fix, sink)
    if report is not None:
        command = shlex.join(["tunefork", "check", str(path)])
        write_page(
            report,
            title=path.name,
            rows=read.total,
            form=read.format,
            findings=findings,
            command=command,
        )
        result["report"] = str(report)
    return Checked(result, findings)


def select(
    path: Path,
    *,
    keep: int,
    out: Path,
    mapping: Mapping[str, str] | None,
    base: str | None,
    sink: Sink,
) -> dict[str, Any]:
    """Write the rows of a file that teach most.

    Raises:
        InputError: The file or the base cannot be used, or no row is clean.
        UsageError: `out` is not to be written to.
    """
    if out.suffix.lower() != ".jsonl":
        raise UsageError(
            f"`--out {out}`: the new file is JSON lines", hint="give it the ending `.jsonl`"
        )
    _refuse_input(out, path, "--out")
    context = _context(path, mapping, Against(base=base), sink)
    read, findings = context.read, examine(context, sink)
    selection = select_rows(read.rows, findings, keep)
    if not selection.numbers:
        raise DataError(
            "no row is clean", where=path, hint="`tunefork check` says what is wrong with them"
        )
    lines = _lines_of(path, read, selection.numbers)
    write_text(out, "".join(lines))
    return {
        "file": str(path),
        "rows": read.total,
        "clean": selection.n_clean,
        "kept": len(lines),
        "coverage": selection.coverage,
        "selected": list(selection.numbers),
        "out": str(out),
    }


def _context(
    path: Path, mapping: Mapping[str, str] | None, against: Against, sink: Sink
) -> Context:
    read = read_rows(path, mapping)
    return Context(
        read,
        validation=read_rows(against.validation, mapping).rows if against.validation else (),
        golden=_golden(against.golden) if against.golden else (),
        against=_inputs(against.inputs) if against.inputs else (),
        tokens=_tokens(read, against.base, sink) if against.base else None,
    )


def _fix(
    path: Path,
    mapping: Mapping[str, str] | None,
    measured: Mapping[str, Sequence[str]],
    out: Path,
    sink: Sink,
) -> dict[str, Any]:
    from tunefork.workflow.register import register_derived

    fixed = fix_file(path, mapping, measured)
    if not fixed.rows:
        raise DataError(
            "no row would be left", where=path, hint="the findings say what is wrong with them"
        )
    write_fixed(fixed, out, path)
    return {
        "out": str(out),
        "changes": str(changes_path(out)),
        "rows": fixed.total,
        "kept": fixed.kept,
        "dropped": fixed.dropped,
        "counts": fixed.counts,
        "versions": register_derived(path, out, sink),
    }


def _golden(path: Path) -> list[str]:
    from tunefork.evaluation import load_golden

    return [question.text for question in load_golden(path)]


def _tokens(read: Rows, name: str, sink: Sink) -> Tokens:
    from tunefork.data import Renderer, load_tokenizer
    from tunefork.models import find_base

    base = find_base(name)
    tokenizer = load_tokenizer(base.folder)
    limit = min(base.max_length or _LONGEST_ROW, _LONGEST_ROW)
    total = len(read.rows)

    def told(done: int) -> None:
        sink(Progress("counting tokens", done, total))

    return count_tokens(read.rows, Renderer(tokenizer), name, limit, told)


def _inputs(path: Path) -> list[str]:
    """Return what users ask: from conversations, rows of any shape, or the lines of a text file."""
    if path.suffix.lower() in (".txt", ".md"):
        from tunefork.data._text import text_lines

        return [line.strip() for _, line in text_lines(path) if line.strip()]
    texts = []
    for record in scan_records(path):
        if isinstance(record, DataError):
            raise record
        text = _asked(record.fields)
        if text is None:
            names = ", ".join(f"`{name}`" for name in _ASKED[:4])
            raise DataError(
                "the row holds no question",
                where=record.where,
                hint=f"name the column one of {names}, …, or write one question on each line "
                "of a `.txt` file",
            )
        texts.append(text)
    return texts


def _asked(fields: Mapping[str, Any]) -> str | None:
    """Return what is asked in a row as read, whose values are any JSON."""
    turns = fields.get("messages")
    if isinstance(turns, list):
        said = [turn.get("content") for turn in turns if _is_user(turn)]
        if said and isinstance(said[-1], str):
            return said[-1]
    by_name = {name.lower(): value for name, value in fields.items()}
    found = (by_name.get(name) for name in _ASKED)
    return next((text for text in found if isinstance(text, str)), None)


def _is_user(turn: object) -> bool:
    return isinstance(turn, dict) and turn.get("role") in ("user", "human")


def _lines_of(path: Path, read: Rows, numbers: tuple[int, ...]) -> list[str]:
    """Return rows as they were read, each as a line of JSON."""
    records = list(scan_records(path))
    wanted = set(numbers)
    if len(records) == read.total:
        chosen = [record for at, record in enumerate(records, start=1) if at in wanted]
    else:  # a record that holds several examples is chosen with any of them
        lines = {row.line for row in read.rows if row.number in wanted}
        chosen = [record for record in records if record.where and record.where.line in lines]
    return [
        json.dumps(record.fields, ensure_ascii=False) + "\n"
        for record in chosen
        if not isinstance(record, DataError)
    ]


def _refuse_input(out: Path | None, path: Path, option: str) -> None:
    if out is None:
        return
    with writing(out):
        if out.exists() and path.exists() and out.samefile(path):
            raise UsageError(
                f"`{option} {out}` would write over the data", hint="name another file"
            )
