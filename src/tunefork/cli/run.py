"""`tunefork run SPEC`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tunefork.cli.options import Halvings, Json, KeyVariable, Out, Resume, SpecPath

_COLOURS = {"ship": "green", "hold": "red", "undecided": "yellow"}


def run(
    spec: SpecPath,
    out: Out = None,
    resume: Resume = False,
    json: Json = False,
    halvings: Halvings = 0,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="URL",
            help="Do it on another server that speaks OpenAI's fine-tuning API, and bring back "
            "the result. The same command goes on with the same job.",
        ),
    ] = None,
    key_env: KeyVariable = "OPENAI_API_KEY",
) -> None:
    """Train, compare with the base on the same questions, and say whether to ship."""
    from tunefork.cli import show
    from tunefork.workflow.spec import load_project

    project = load_project(spec)
    show.prepare_process()
    if on is not None:
        from tunefork.workflow.remote import run_remote
        from tunefork.workflow.service import address_of

        with show.TalkSink() as sink:
            result = run_remote(project, address_of(on, key_env), out=out, sink=sink)
    else:
        from tunefork.workflow.run import run_project

        with show.TalkSink() as sink:
            result = run_project(project, out=out, resume=resume, halvings=halvings, sink=sink)
    if json:
        show.print_json(result)
    elif result["verdict"] is None:
        _print_names(result)
    else:
        print_verdict(result)
        if on is not None:
            there = f"{result['fine_tuned_model']} at {result['server']}"
            show.talk.print(f"There it is {there}", soft_wrap=True, markup=False)
    leave_by_verdict(result)


def leave_by_verdict(result: dict[str, Any]) -> None:
    """Leave with exit code 1 where the verdict is `hold`."""
    if result["verdict"] == "hold":
        raise typer.Exit(1)


def _print_names(result: dict[str, Any]) -> None:
    """Say what a server gave that tells names alone."""
    from tunefork.cli import show

    lines = [f"Model:       {result['fine_tuned_model']} at {result['server']}"]
    lines += [f"Checkpoint:  {each['model']}" for each in result["checkpoints"]]
    lines += [f"Curve:       {path}" for path in result["metrics"]]
    show.talk.print("\n".join(lines), soft_wrap=True, markup=False)


def print_verdict(result: dict[str, Any]) -> None:
    """Say what a run found, the answer first."""
    from rich.panel import Panel
    from rich.table import Table

    from tunefork.cli import show
    from tunefork.cli.ladder import print_ladder, print_recommendation
    from tunefork.core.units import bytes_text, duration_text

    shown = result["before_after"]
    if shown:
        show.talk.print()
        show.talk.print(f"[bold]{_plain(shown['question'])}[/]")
        show.talk.print(f"  before  {_plain(shown['before'])}")
        show.talk.print(f"  after   [bold]{_plain(shown['after'])}[/]")
    if result["rungs"]:
        show.talk.print()
        print_ladder(result)
    table = Table(box=None, pad_edge=False)
    for column in ("", "base", "tuned"):
        table.add_column(column, justify="left" if not column else "right")
    if result["held_out"]:
        held_out = result["held_out"]
        table.add_row(
            "held-out loss", f"{held_out['base_loss']:.3f}", f"{held_out['tuned_loss']:.3f}"
        )
    if result["general_knowledge"]:
        general = result["general_knowledge"]
        table.add_row(
            "general knowledge",
            f"{general['base_accuracy']:.1%}",
            f"{general['tuned_accuracy']:.1%}",
        )
    show.talk.print()
    show.talk.print(table)
    show.talk.print()
    colour = _COLOURS[result["verdict"]]
    reasons = "\n".join(f"• {_plain(reason)}" for reason in result["reasons"])
    show.talk.print(
        Panel(reasons, title=f"[bold {colour}]{result['verdict']}[/]", border_style=colour)
    )
    print_recommendation(result)
    show.talk.print(
        f"Base {bytes_text(result['base_bytes'])}, unchanged: "
        f"{'yes' if result['base_unchanged'] else 'NO'}; "
        f"result {bytes_text(result['adapter_bytes'])}; "
        f"whole run {duration_text(result['seconds'])}"
    )
    show.talk.print(f"Report:     {result['report']}", soft_wrap=True, markup=False)
    show.talk.print(f"Talk to it: tunefork chat {result['model']}", soft_wrap=True, markup=False)
    if result["remedies"]:
        command = f"tunefork remedy {result['model']}"
        show.talk.print(f"It forgot:  {command}", soft_wrap=True, markup=False)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(" ".join(text.split()))
