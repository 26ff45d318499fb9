"""`tunefork convert FILE --to FORMAT`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunefork.cli.options import Json
from tunefork.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from tunefork.data.convert.run import Counts

_STDOUT = Path("-")


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file with rows, or a folder.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="What to write, such as chat.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The new file; - is stdout. [default: FILE.FORMAT.jsonl]"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="Columns we do not know: user=question,assistant=answer"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where one row has to be refused.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if there is one.")
    ] = False,
    json: Json = False,
) -> None:
    """Write rows in another format, and say what it cannot hold."""
    from tunefork.cli import show
    from tunefork.data.convert.run import convert as run_convert

    mapping = parse_map(columns)
    path = _out_path(file, to, out, is_forced=force)
    if path is None and json:
        raise UsageError("`--out -` and `--json` both print on stdout", hint="leave one away")
    with show.TalkSink() as sink:
        counts = run_convert(file, to, path, mapping=mapping, is_strict=strict, sink=sink)
    if json:
        show.print_json(_as_json(counts, to, path))
    for line in _lines(counts, path):
        show.talk.print(line, soft_wrap=True, markup=False)


def parse_map(given: Iterable[str] | None) -> dict[str, str] | None:
    """Return `user=question,assistant=answer` as a mapping; None where nothing is given.

    Raises:
        UsageError: where it is written in another way.
    """
    if not given:
        return None
    mapping: dict[str, str] = {}
    for part in (part for option in given for part in option.split(",")):
        key, mark, column = (text.strip() for text in part.partition("="))
        if not (key and mark and column) or key in mapping:
            raise UsageError(
                f"`--map` cannot be understood at `{part}`",
                hint="write it as `--map user=COLUMN,assistant=COLUMN`",
            )
        mapping[key] = column
    return mapping


def _out_path(file: Path, to: str, out: Path | None, *, is_forced: bool) -> Path | None:
    from tunefork.data.convert.targets import TARGETS

    if to not in TARGETS:
        known = ", ".join(TARGETS)
        hint = did_you_mean(to, list(TARGETS))
        raise UsageError(f"there is no format `{to}`; there are {known}", hint=hint)
    if out == _STDOUT:
        return None
    if out is None:
        stem = file.resolve().name.split(".")[0] or "rows"
        ending = TARGETS[to].ending
        out = file.with_name(f"{stem}{'' if to == ending[1:] else '.' + to}{ending}")
    if out.exists() and out.resolve() == file.resolve():
        raise UsageError("the new file is the old one", hint="name another with `--out FILE`")
    if out.exists() and not is_forced:
        hint = "name another with `--out FILE`, or replace it with `--force`"
        raise UsageError(f"`{out}` is there already", hint=hint)
    return out


def _as_json(counts: Counts, to: str, out: Path | None) -> dict[str, Any]:
    return {
        "rows": counts.rows,
        "kept": counts.kept,
        "refused": counts.refused,
        "written": counts.written,
        "to": to,
        "out": str(out),
        "files": [
            {
                "file": name,
                "format": found.format.name,
                "kind": found.format.kind,
                "columns": list(found.columns),
                "unused": list(found.unused),
                "rows_looked_at": found.n_rows,
                "rows_that_fit": found.n_fit,
            }
            for name, found in counts.files.items()
        ],
        "files_not_read": list(counts.left),
        "lost": dict(counts.lost),
        "reasons": [
            {"reason": reason, "rows": counts.n_of_reason[reason], "first": places}
            for reason, places in counts.reasons.items()
        ],
    }


def _lines(counts: Counts, out: Path | None) -> list[str]:
    found = [_file_line(name, recognised) for name, recognised in [*counts.files.items()][:10]]
    if len(counts.files) > 10:
        found.append(f"... and {len(counts.files) - 10} more files")
    more = f" as {counts.written:,}" if counts.written != counts.kept else ""
    found.append(f"{counts.rows:,} rows read, {counts.kept:,} written{more} to {out or 'stdout'}")
    if counts.left:
        found.append(f"{len(counts.left)} files were not read, such as {counts.left[0]}")
    for what, number in counts.lost.items():
        found.append(f"not held by this format: {what} ({number:,} rows)")
    for reason, places in counts.reasons.items():
        number = counts.n_of_reason[reason]
        more = ", ..." if number > len(places) else ""
        found.append(f"refused: {number:,} rows: {reason} ({', '.join(places)}{more})")
    return found


def _file_line(name: str, found: Any) -> str:
    unused = ", ".join(f"`{column}`" for column in found.unused)
    return f"{name}: {found.format.name} ({found.n_fit} of the first {found.n_rows} rows fit)" + (
        f"; columns not used: {unused}" if unused else ""
    )
