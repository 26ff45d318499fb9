"""Every error a user can meet, in one hierarchy.

    TuneforkError
    ├── InputError      the user's input is at fault           exit 1
    │   ├── DataError       a data file or a row of it
    │   ├── SpecError       tunefork.yaml or a setting
    │   ├── ModelError      a base or an adapter that cannot be used
    │   ├── RunError        a run folder that cannot be used
    │   └── RemoteError     another server refuses, fails or is not there
    ├── UsageError      the command line itself is at fault    exit 2
    ├── Stopped         the user stopped a run, which is saved exit 130
    │   └── Terminated      the same, by SIGTERM               exit 143
    ├── Busy            too much is asked for at once          exit 3
    └── InternalError   our fault                              exit 3

To add one: subclass the nearest class, set `code`, and raise it with what is wrong, the
offending value, where it is, and what to do next. The command line turns it into one line
and an exit code; nothing else catches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOST_DETAILS = 20  # lines for people; `--json` has all


@dataclass(frozen=True)
class Where:
    """A place in the user's input: a file, and a 1-based line where there is one."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class TuneforkError(Exception):
    """Base of all: a message, the place it is about, and what to do next."""

    code = "error"
    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        where: Where | Path | str | None = None,
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where if isinstance(where, Where | None) else Where(str(where))
        self.hint = hint
        self.details = details  # further problems found in the same pass, one line each

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        more = len(self.details) - _MOST_DETAILS
        lines = [place + self.message, *self.details[:_MOST_DETAILS]]
        if more > 0:
            lines.append(f"and {more:,} more")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.where, self.hint, self.details))

    def as_dict(self) -> dict[str, object]:
        """The `error` object that `--json` prints."""
        where = {"file": self.where.file, "line": self.where.line} if self.where else None
        found: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "where": where,
            "hint": self.hint,
        }
        if self.details:
            found["details"] = list(self.details)
        return found


def _rebuild(
    kind: type[TuneforkError],
    message: str,
    where: Where | None,
    hint: str | None,
    details: tuple[str, ...],
) -> TuneforkError:
    return kind(message, where=where, hint=hint, details=details)


class InputError(TuneforkError, ValueError):
    """The user's input is at fault."""

    code = "input"
    exit_code = 1


class DataError(InputError):
    """A data file, or a row of it, cannot be used."""

    code = "data"


class SpecError(InputError):
    """The spec, or a setting, cannot be used."""

    code = "spec"


class ModelError(InputError):
    """A base or an adapter cannot be used."""

    code = "model"


class RunError(InputError):
    """A run folder cannot be used or written."""

    code = "run"


class RemoteError(InputError):
    """Another server refuses what was asked of it, fails, or is not there."""

    code = "remote"


class UsageError(TuneforkError, ValueError):
    """The command line itself is at fault."""

    code = "usage"
    exit_code = 2


class Stopped(TuneforkError):
    """A run was stopped by Ctrl-C between two steps, and saved."""

    code = "stopped"
    exit_code = 130  # 128 and the number of SIGINT, as shells report it


class Terminated(Stopped):
    """A run was stopped by SIGTERM between two steps, and saved."""

    code = "terminated"
    exit_code = 143


class Busy(TuneforkError):
    """More is asked for at once than is taken in; the same request may be made again later."""

    code = "busy"
    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1.0,
        where: Where | Path | str | None = None,
        hint: str | None = None,
        details: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, where=where, hint=hint, details=details)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"retry_after_s": self.retry_after_s})


class InternalError(TuneforkError, RuntimeError):
    """A promise of ours does not hold."""

    code = "internal"
    exit_code = 3


def did_you_mean(value: str, known: list[str]) -> str | None:
    """Return a hint that names the nearest known value, or None where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(value, known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None
