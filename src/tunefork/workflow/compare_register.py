"""Write every rung of a ladder down as a model that can be asked, promoted and served by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunefork.core.events import Sink
from tunefork.core.files import cache_folder
from tunefork.core.hashing import hash_json
from tunefork.evaluation import GateSettings, Ladder, Rung, Verdict, standing
from tunefork.registry import add_evaluation, open_registry
from tunefork.workflow.compare_rungs import Step
from tunefork.workflow.compare_search import Way
from tunefork.workflow.look_up import save_look_up
from tunefork.workflow.register import add_file, going_on
from tunefork.workflow.registered import register_prompt
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import Project


def register_rungs(
    ladder: Ladder, steps: Sequence[Step], project: Project, run: RunFolder | None, sink: Sink
) -> Ladder:
    """Write all rungs of our own down; return the ladder with their names in the registry.

    They are called after the run, or the project where nothing was trained, and their rung.
    """
    prefix = run.name if run is not None else project.name
    names: dict[str, str] = {}
    with going_on(sink):
        for step in steps:
            rung = step.climbed.name
            if rung == "tuned" and run is not None:
                names[rung] = run.model_name  # written down when it was trained
            elif step.base is not None:
                names[rung] = register_prompt(
                    f"{prefix}-{rung.replace('+', '-')}",
                    step.base,
                    step.way.prompt,
                    look_up=_saved(step.way),
                    tuned=run.path if run is not None and rung.startswith("tuned") else None,
                )
    rungs = [
        replace(rung, climbed=replace(rung.climbed, bundle=names.get(rung.name)))
        for rung in ladder.rungs
    ]
    return replace(ladder, rungs=tuple(rungs))


def register_standings(
    ladder: Ladder,
    project: Project,
    settings: GateSettings,
    verdicts: Mapping[str, Verdict],
    sink: Sink,
) -> None:
    """Write down what was measured of each rung but the tuned one, which has an evaluation.

    Args:
        ladder: What was measured.
        project: Whose questions were asked.
        settings: What is asked of rungs that were not trained.
        verdicts: The gate's on rungs that were.
        sink: Told of what cannot be written.
    """
    with going_on(sink), open_registry() as registry:
        golden = add_file(registry, project, project.spec.golden)
        for rung in ladder.rungs:
            if rung.climbed.bundle is None or rung.name == "tuned":
                continue
            result = _standing(rung, settings, verdicts.get(rung.name))
            with registry.writing() as session:
                add_evaluation(session, rung.climbed.bundle, result, golden, rung=rung.name)


def _standing(rung: Rung, settings: GateSettings, decided: Verdict | None) -> dict[str, Any]:
    against = rung.over_base
    verdict = standing(against, settings)  # allows for all rungs being tried at once
    if decided is not None and decided.verdict != "ship" and verdict != "hold":
        verdict = decided.verdict
    reasons = [] if decided is None else list(decided.reasons)
    score = {"score": rung.score.mean, "low": rung.score.low, "high": rung.score.high}
    return {
        "verdict": verdict,
        "reasons": reasons,
        "scores": {rung.name: score},
        "gain": against.paired.gain if against is not None else None,
        "forgetting": None,
    }


def _saved(way: Way) -> Path | None:
    """Return the folder with what is looked up, written where it is not there yet."""
    if way.look_up is None:
        return None
    name = hash_json(way.key()).removeprefix("sha256:")[:32]
    folder = cache_folder() / "look_ups" / name
    if not folder.is_dir():
        save_look_up(way.look_up, folder)
    return folder
