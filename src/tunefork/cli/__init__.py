"""The command line: one small file per verb. Only here do errors become lines and exit codes.

Nothing heavy is imported until a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point of the `tunefork` script."""
    from tunefork.cli.app import run_app
    from tunefork.cli.failures import report_failures

    arguments = sys.argv[1:]
    with report_failures(is_json="--json" in arguments):
        run_app(arguments or ["--help"])
