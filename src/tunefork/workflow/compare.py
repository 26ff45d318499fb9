"""`compare`: base, prompt, retrieval and tuning on the same questions, and which to take.

It measures the project's finished run, or trains one first. Where nothing tuned is asked for, the
base alone climbs the ladder. Killed, it goes on from the answers that it has.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tunefork.core.errors import SpecError
from tunefork.core.events import Noted, Sink
from tunefork.evaluation import load_golden, recommend
from tunefork.models import find_base
from tunefork.workflow.claim import finished_run
from tunefork.workflow.compare_ladder import TUNED_RUNGS, Wanted, ladder_summary, start_climb
from tunefork.workflow.compare_register import register_rungs, register_standings
from tunefork.workflow.opened import chat_model, renderer_of
from tunefork.workflow.prepare import prepare
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Project

# Of what a whole run says, what matters to the ladder.
_OF_RUN = (
    "questions",
    "facts",
    "scores",
    "rungs",
    "skipped",
    "recommendation",
    "verdict",
    "reasons",
    "forgetting",
    "break_even",
    "seconds",
    "run",
    "report",
)


def compare_project(
    project: Project,
    wanted: Wanted,
    *,
    is_trained: bool = True,
    out: Path | None = None,
    halvings: int = 0,
    sink: Sink,
) -> dict[str, Any]:
    """Climb the ladder; return what `compare --json` prints.

    Args:
        project: What is compared.
        wanted: The rungs.
        is_trained: Train where there is no finished run; without it tuned rungs are left out then.
        out: The run's folder; by default the one under the home folder.
        halvings: How often to halve what is computed at once, since memory ran out before.
        sink: Receives what happens.

    Raises:
        InputError: Spec, data, questions, base or folder cannot be used.
    """
    if project.spec.golden is None:
        raise SpecError(
            "there are no golden questions to compare by",
            where=project.folder,
            hint="name a file of questions with graders in the spec: `golden: golden.jsonl`",
        )
    load_golden(project.path(project.spec.golden))  # what is wrong with it is told at once
    if wanted.is_tuned:
        base = find_base(project.spec.base, relative_to=project.folder)
        finished = finished_run(project, base, out)
        if finished is not None or is_trained:
            place = finished.path if finished is not None else out
            resume = finished is not None or place is None
            result = run_project(
                project, out=place, resume=resume, halvings=halvings, wanted=wanted, sink=sink
            )
            return {key: result[key] for key in _OF_RUN}
        sink(Noted("There is no finished run of this project, so nothing tuned is measured."))
    return _without_run(project, wanted, sink)


def _without_run(project: Project, wanted: Wanted, sink: Sink) -> dict[str, Any]:
    """Climb with the base alone."""
    start = time.perf_counter()
    assert project.spec.golden is not None, "there are questions"
    golden = tuple(load_golden(project.path(project.spec.golden)))
    prepared = prepare(project, sink)
    gate = project.spec.gate.settings()
    climb = start_climb(project, prepared, golden, wanted, sink)
    chat = chat_model(prepared.base, renderer_of(prepared.base, project.spec.date))
    steps = climb.climber.on_base(chat, prepared.base)
    del chat  # a larger base may need its room
    steps += climb.others()
    ladder = register_rungs(climb.ladder(steps, gate.confidence), steps, project, None, sink)
    register_standings(ladder, project, gate, {}, sink)
    summary = ladder_summary(ladder, recommend(ladder, gate))
    return {
        **dict.fromkeys(_OF_RUN),
        **summary,
        "scores": {
            rung.name: {"score": rung.score.mean, "low": rung.score.low, "high": rung.score.high}
            for rung in ladder.rungs
        },
        "reasons": [f"`{name}` was not measured." for name in TUNED_RUNGS if name in wanted.rungs],
        "seconds": round(time.perf_counter() - start, 1),
    }
