"""`tunefork demo`."""

from __future__ import annotations

from tunefork.cli.options import Halvings, Json, Out, Resume


def demo(
    out: Out = None, resume: Resume = False, json: Json = False, halvings: Halvings = 0
) -> None:
    """Turn the bundled base into an expert on Ollie the cat, and prove it, in minutes."""
    from tunefork.cli import show
    from tunefork.cli.run import leave_by_verdict, print_verdict

    show.prepare_process()
    from tunefork.workflow.run import run_project
    from tunefork.workflow.start import example_project

    show.talk.print("CatGPT: the bundled base `tiny` learns about Ollie the cat.")
    with show.TalkSink() as sink:
        result = run_project(
            example_project("catgpt"), out=out, resume=resume, halvings=halvings, sink=sink
        )
    if json:
        show.print_json(result)
    else:
        print_verdict(result)
        show.talk.print("Make it yours: tunefork init my-cat --example catgpt")
    leave_by_verdict(result)
