"""The `tunefork` program: its verbs, each in a file of its own."""

from __future__ import annotations

import typer

from tunefork import __version__
from tunefork.cli import chat, demo, evaluate, init, run, train

app = typer.Typer(
    help="Fork a model, tune it on your data, prove it is better: all on your own machine.",
    no_args_is_help=True,
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


app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("run")(run.run)
app.command("chat")(chat.chat)
