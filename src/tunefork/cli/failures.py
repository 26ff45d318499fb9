"""Turn whatever goes wrong into one clear message and an exit code: the process boundary."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator

from tunefork.cli.lines import json_line
from tunefork.core.errors import InternalError, TuneforkError
from tunefork.core.files import home, write_text

_INTERRUPTED = 130  # what shells report for Ctrl-C


@contextlib.contextmanager
def report_failures(*, is_json: bool) -> Iterator[None]:
    """Print a failure as one message on stderr (with JSON on stdout too), and exit."""
    try:
        yield
    except TuneforkError as error:
        _tell(error, is_json)
    except KeyboardInterrupt:
        print("\ninterrupted; go on with the same command and `--resume`", file=sys.stderr)
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


def _tell(error: TuneforkError, is_json: bool) -> None:
    if is_json:
        sys.stdout.write(json_line({"error": error.as_dict()}))
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
