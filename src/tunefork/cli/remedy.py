"""`tunefork remedy RUN`."""

from __future__ import annotations

from typing import Annotated

import typer

from tunefork.cli.options import Json, Out


def remedy(
    run: Annotated[str, typer.Argument(help="A finished run's name or folder.")],
    by: Annotated[
        str | None,
        typer.Option(
            help="gentle, replay, rate, scale or epochs; without it, says what each would do."
        ),
    ] = None,
    out: Out = None,
    json: Json = False,
) -> None:
    """Bring a run that forgot too much back inside its budget, and measure it again."""
    from tunefork.cli import show

    show.prepare_process()
    from tunefork.cli.run import leave_by_verdict, print_verdict
    from tunefork.core.files import read_json
    from tunefork.workflow.remedies import offered
    from tunefork.workflow.remedy import apply_remedy, finished_run
    from tunefork.workflow.spec import Spec

    if by is None:
        found = offered(Spec.model_validate(read_json(finished_run(run).spec_file)))
        if json:
            show.print_json({"run": run, "remedies": found})
            return
        for name, what in found.items():
            typer.echo(f"--by {name:<8} {what}")
        return
    with show.TalkSink() as sink:
        result = apply_remedy(run, by, out=out, sink=sink)
    if json:
        show.print_json(result)
    else:
        print_verdict(result)
    leave_by_verdict(result)
