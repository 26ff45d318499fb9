"""Where state lives, and how files are written so that a kill leaves nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tunefork.core.errors import RunError

CACHE = "TUNEFORK_CACHE"


def home() -> Path:
    """Return the folder of all state: `$TUNEFORK_HOME`, or `~/.tunefork`."""
    return Path(os.environ.get("TUNEFORK_HOME") or Path.home() / ".tunefork").expanduser()


def cache_folder() -> Path:
    """Return the folder of what can be made again: `$TUNEFORK_CACHE`, or one in the home folder."""
    given = os.environ.get(CACHE)
    return Path(given).expanduser() if given else home() / "cache"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing `path` into one clear error."""
    try:
        yield
    except OSError as error:
        # `shutil` gathers what went wrong with each file in one error without a number.
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if is_full:
            raise RunError(
                "the disk is full",
                where=path,
                hint="free some space and run again with `--resume`; finished work is kept",
            ) from error
        reason = error.strerror or str(error)
        raise RunError(
            f"cannot write here: {reason}", where=path, hint="choose a folder that you may write to"
        ) from error


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Fill a temporary file, then move it to `path` in one step; leave nothing on failure."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # where even the folder could not be made
                partial.unlink()
            raise


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with new_file(path) as file:
        file.write(text.encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read an object that `write_json` wrote.

    Raises:
        RunError: It is not there, or no longer what was written.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict):
        raise _damaged(path, "no JSON object")
    return value


def _damaged(path: Path, reason: str) -> RunError:
    hint = "bring the file back as it was, or start a new run in a new folder"
    return RunError(f"the file is missing or damaged: {reason}", where=path, hint=hint)


def write_json(path: Path, value: object) -> None:
    """Write a value as readable JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder, then move it to `path` in one step; leave nothing on failure."""
    partial = path.with_name(path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(path):
        try:
            partial.mkdir(parents=True)
            yield partial
            _sync(partial)
            if path.exists():  # replaced as a whole: the old folder is moved aside first
                old = path.with_name(path.name + ".old")
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
                try:
                    partial.rename(path)
                except BaseException:
                    old.rename(path)
                    raise
                shutil.rmtree(old)
            else:
                partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
