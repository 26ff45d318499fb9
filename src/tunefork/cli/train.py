"""`tunefork train SPEC`."""

from __future__ import annotations

from tunefork.cli.options import Halvings, Json, Out, Resume, SpecPath


def train(
    spec: SpecPath,
    out: Out = None,
    resume: Resume = False,
    json: Json = False,
    halvings: Halvings = 0,
) -> None:
    """Train a model as a spec says, and leave the result in a run folder."""
    from tunefork.cli import show
    from tunefork.workflow.spec import load_project

    project = load_project(spec)
    show.prepare_process()
    from tunefork.workflow.train import train_project

    with show.TalkSink() as sink:
        trained = train_project(project, out=out, resume=resume, halvings=halvings, sink=sink)
    if json:
        show.print_json(trained.result)
        return
    show.talk.print(f"Result: {trained.result['path']}", soft_wrap=True, markup=False)
    show.talk.print(
        f"Talk to it: tunefork chat {trained.result['model']}", soft_wrap=True, markup=False
    )
