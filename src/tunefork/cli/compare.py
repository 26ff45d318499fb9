"""`tunefork compare SPEC`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Halvings, Json, Out, SpecPath


def compare(
    spec: SpecPath,
    rungs: Annotated[
        str | None,
        typer.Option(
            "--rungs", metavar="NAME,NAME", help="What to measure. [default: all that can be]"
        ),
    ] = None,
    larger: Annotated[
        str | None,
        typer.Option("--larger", metavar="BASE", help="A larger base, behind its best prompt."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="URL", help="An OpenAI-compatible server, as a yardstick."
        ),
    ] = None,
    reference_model: Annotated[
        str | None,
        typer.Option("--reference-model", help="What it calls the model. [default: its first]"),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train where there is no finished run.")
    ] = True,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", hidden=True)] = False,
    json: Json = False,
    halvings: Halvings = 0,
) -> None:
    """Measure base, prompt, retrieval and tuning on the same questions, and say which to take."""
    from tunefork.cli import show
    from tunefork.workflow.spec import load_project

    project = load_project(spec)
    show.prepare_process()
    from tunefork.models import find_base
    from tunefork.workflow.compare import compare_project
    from tunefork.workflow.compare_ladder import wanted
    from tunefork.workflow.compare_reference import reference_at

    chosen = wanted(
        rungs,
        find_base(larger, relative_to=project.folder) if larger is not None else None,
        reference_at(reference, reference_model) if reference is not None else None,
    )
    with show.TalkSink() as sink:
        result = compare_project(
            project, chosen, is_trained=train, out=out, halvings=halvings, sink=sink
        )
    if json:
        show.print_json(result)
        return
    from tunefork.cli.ladder import print_ladder, print_recommendation

    show.talk.print()
    print_ladder(result)
    show.talk.print()
    print_recommendation(result)
    for name, rung in result["rungs"].items():
        if rung["bundle"] is not None and name == result["recommendation"]["rung"]:
            show.talk.print(f"Talk to it: tunefork chat {rung['bundle']}", soft_wrap=True)
    if result["report"] is not None:
        show.talk.print(f"Report:     {result['report']}", soft_wrap=True, markup=False)
