"""Turn whatever goes wrong into one clear message and an exit code: the process boundary."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Iterator

from tunefork.cli.lines import json_line
from tunefork.cli.supervise import command_to_resume
from tunefork.core.errors import InternalError, Stopped, TuneforkError
from tunefork.core.files import home, write_text

_INTERRUPTED = 130  # what shells report for Ctrl-C


@contextlib.contextmanager
def report_failures(arguments: list[str]) -> Iterator[None]:
    """Print a failure as one message on stderr (with JSON on stdout too), and exit."""
    is_json = "--json" in arguments
    try:
        yield
    except Stopped as stopped:
        _tell_stopped(stopped, arguments, is_json)
    except TuneforkError as error:
        _tell(error, is_json)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the same key, once more
        command = command_to_resume(arguments)
        print(f"\ninterrupted{f'; go on with: {command}' if command else ''}", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader went away: `tunefork eval … | head`
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the boundary: anything else is our fault
        path = home() / "last_crash.txt"
        with contextlib.suppress(TuneforkError):
            write_text(path, traceback.format_exc())
        message = f"this is our fault: {type(error).__name__}: {error}"
        _tell(
            InternalError(message, hint=f"the details are in {path}; please report them"), is_json
        )


def _tell_stopped(stopped: Stopped, arguments: list[str], is_json: bool) -> None:
    command = command_to_resume(arguments)
    if is_json:
        error = {**stopped.as_dict(), "hint": f"go on with: {command}"}
        sys.stdout.write(json_line({"error": error}))
    print(f"{stopped.message}; go on with: {command}", file=sys.stderr)
    sys.exit(stopped.exit_code)


def _tell(error: TuneforkError, is_json: bool) -> None:
    if is_json:
        sys.stdout.write(json_line({"error": error.as_dict()}))
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
