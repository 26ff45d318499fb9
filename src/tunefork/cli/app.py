"""The `tunefork` program: its verbs, each in a file of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from tunefork import __version__
from tunefork.cli import (
    backup,
    card,
    chat,
    check,
    clean,
    compare,
    convert,
    datasets,
    demo,
    evaluate,
    forgetting,
    init,
    jobs,
    keys,
    label,
    lineage,
    models,
    plan,
    promote,
    remedy,
    replay,
    rescue,
    run,
    runs,
    score,
    select,
    serve,
    sweep,
    train,
    verify,
)
from tunefork.core.errors import UsageError

_INTERRUPTED = 130  # how typer reports Ctrl-C, as shells do
# typer's complaint about a command line. Where the class comes from differs with its version,
# so it is found through one that typer exports; `Any`, because it has no public name.
_BadCommandLine: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Fork a model, tune it on your data, prove it is better: all on your own machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tunefork {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Take the options that stand before a verb."""


_VERBS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "init": init.init,
    "check": check.check,
    "select": select.select,
    "convert": convert.convert,
    "plan": plan.plan,
    "sweep": sweep.sweep,
    "train": train.train,
    "eval": evaluate.evaluate,
    "compare": compare.compare,
    "forgetting": forgetting.forgetting,
    "score": score.score,
    "run": run.run,
    "remedy": remedy.remedy,
    "chat": chat.chat,
    "serve": serve.serve,
    "label": label.label,
    "lineage": lineage.lineage,
    "replay": replay.replay,
    "promote": promote.promote,
    "rollback": promote.rollback,
    "card": card.card,
    "verify": verify.verify,
    "gc": clean.gc,
    "backup": backup.backup,
}
_GROUPS = {
    "datasets": datasets.app,
    "runs": runs.app,
    "models": models.app,
    "keys": keys.app,
    "jobs": jobs.app,
    "rescue": rescue.app,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)
for _name, _group in _GROUPS.items():
    app.add_typer(_group, name=_name)


def run_app(arguments: list[str]) -> None:
    """Run one command.

    Raises:
        UsageError: The command line does not fit the command.
        KeyboardInterrupt: The user stopped it.
        SystemExit: The command left with an exit code of its own.
    """
    try:
        code = app(arguments, prog_name="tunefork", standalone_mode=False)
    except _BadCommandLine as error:
        command = [
            "tunefork",
            *(name for name in arguments[:1] if name in {*_VERBS, *_GROUPS}),
            "--help",
        ]
        message = error.format_message().strip().rstrip(".")
        raise UsageError(message, hint=f"`{' '.join(command)}` shows what it takes") from error
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        sys.exit(code)
