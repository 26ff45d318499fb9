"""The command line: one small file per verb. Only here do errors become lines and exit codes.

Nothing heavy is imported until a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; the entry point of the `tunefork` script.

    What trains runs in a child process, so that somebody is left to tell when the system ends it.
    """
    from tunefork.cli.failures import report_failures
    from tunefork.cli.supervise import follow_supervisor, needs_supervisor, supervise
    from tunefork.core.threads import short_waits

    os.environ.update(short_waits())  # for this process and all that it starts
    arguments = sys.argv[1:]
    if not follow_supervisor() and needs_supervisor(arguments):
        with report_failures(arguments):
            sys.exit(supervise(arguments))
    run_here(arguments)


def run_here(arguments: list[str]) -> None:
    """Run one command in this very process, and exit where it fails."""
    from tunefork.cli.app import run_app
    from tunefork.cli.failures import report_failures

    with report_failures(arguments):
        run_app(arguments or ["--help"])
