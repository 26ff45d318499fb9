"""`sweep`: several learning rates, ranks or strategies on the same rows, and which is best.

The folder of a sweep:

record.json         what it is made of
sweep.json          the standings so far; with `winner`, what `sweep --json` prints
candidates/00/ …    one run folder each (see `runs`)
winner.json         the winner's spec, to be run as it is
sweep.html          table and curves
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunefork.core.errors import RunError, SpecError
from tunefork.core.events import Noted, Sink
from tunefork.core.files import read_json, write_json, writing
from tunefork.core.hashing import hash_json
from tunefork.models import Base, find_base
from tunefork.training import Plan, memory_errors
from tunefork.workflow.claim import claimed, claimed_run, identity_of
from tunefork.workflow.derive import derive, longest_row
from tunefork.workflow.estimate import Body
from tunefork.workflow.prepare import Prepared, prepare
from tunefork.workflow.runs import RunFolder, pin_date, resolved_spec
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.sweep_folder import (
    Rungs,
    read_result,
    read_rungs,
    write_record,
    write_rungs,
)
from tunefork.workflow.sweep_grid import Point, expand, parse_axes
from tunefork.workflow.sweep_page import write_page
from tunefork.workflow.sweep_rungs import last_step, n_rungs, ranked, survivors, taking_part
from tunefork.workflow.sweep_trainer import Candidate, Telling, Trainer
from tunefork.workflow.train import halved, train_project

_SHELF = "sweeps"
_SHORTEST_ROW = 8  # tokens: what a spec takes for `max_length` at least
_KEPT = ("record.json", "spec.json", "metrics.jsonl", "checkpoints", "best")


def sweep_project(
    project: Project,
    over: Sequence[str],
    *,
    out: Path | None = None,
    resume: bool = False,
    keep: bool = False,
    halvings: int = 0,
    sink: Sink,
) -> dict[str, Any]:
    """Find the best of several ways to train; return what `sweep --json` prints.

    Args:
        project: What stays the same.
        over: What varies: `KEY=VALUE,VALUE…` each.
        out: The sweep's folder; by default one under the home folder.
        resume: Go on where an interrupted sweep of the same candidates stopped.
        keep: Make a model of the winner, as `tunefork train` would.
        halvings: How often to halve what is computed at once, since memory ran out before.
        sink: Receives what happens.

    Raises:
        UsageError: What varies cannot be used.
        InputError: Spec, data, base or folder cannot be used.
        Stopped: The user asked for it; `resume` goes on.
    """
    axes = parse_axes(over)
    base = find_base(project.spec.base, relative_to=project.folder)
    points = expand(project.spec, axes)
    project = _with_max_length(project, points, base)
    points = expand(project.spec, axes)
    identity = hash_json([identity_of(project, base), [asdict(axis) for axis in axes]])
    with claimed(identity, project.name, _SHELF, out=out, resume=resume) as folder:
        project = pin_date(project, folder)
        result = read_result(folder)
        if result is None:
            with memory_errors(f"training `{base.name}`"):
                prepared = prepare(project, sink, folder.kept_out)
                candidates = _candidates(project, points, prepared, folder, halvings)
                write_record(folder, project, prepared, axes)
                rungs = _train_all(candidates, prepared, folder, sink)
            result = _finish(candidates, rungs, folder)
        else:
            sink(Noted(f"the sweep in {folder.path} is finished already"))
        if keep and result["model"] is None:
            result = _keep_winner(project, base, folder, result, halvings, sink)
    return result


def _with_max_length(project: Project, points: Sequence[Point], base: Base) -> Project:
    """Return the project with a row length that suits every candidate: all see the same rows."""
    longest, name = min((longest_row(point.spec, base), point.name) for point in points)
    if longest < _SHORTEST_ROW:
        raise SpecError(
            f"`{name}` leaves no room for text: the base takes {base.max_length} tokens",
            where=project.folder,
            hint="vary `tokens` of the prefix too, such as `--over tokens=16`",
        )
    training = project.spec.training.model_copy(update={"max_length": longest})
    spec = project.spec.model_copy(update={"training": training})
    return project.model_copy(update={"spec": spec})


def _candidates(
    project: Project,
    points: Sequence[Point],
    prepared: Prepared,
    folder: RunFolder,
    halvings: int,
) -> list[Candidate]:
    if prepared.data.validation is None:
        raise SpecError(
            "there are no held-out rows to compare candidates by",
            where=project.folder,
            hint="give `data.validation`, or more rows to split some off",
        )
    body, found = Body(prepared.base), []
    for number, point in enumerate(points):
        dated = point.spec.model_copy(update={"date": project.spec.date})
        given = project.model_copy(update={"spec": dated})
        plan = derive(point.spec, prepared.base, prepared.data, body=body)
        own = given.model_copy(update={"spec": resolved_spec(given, prepared, plan)})
        path = folder.path / "candidates" / f"{number:02d}"
        run = RunFolder(path, identity_of(own, prepared.base))
        steps = Plan(prepared.data, plan.settings).steps
        found.append(Candidate(number, point.name, own, halved(plan, halvings), run, steps))
    return found


def _train_all(
    candidates: Sequence[Candidate], prepared: Prepared, folder: RunFolder, sink: Sink
) -> Rungs:
    """Train rung by rung; what an earlier sitting has done is not done again."""
    rungs, total = read_rungs(folder), n_rungs(len(candidates))
    telling = Telling(sink)
    trainer = Trainer(prepared, telling)
    for rung in range(total):
        numbers = taking_part(rungs, rung, len(candidates))
        if len(rungs) == rung:
            rungs.append({})
        chosen = sorted(  # so that each kind of base is loaded once
            (candidates[number] for number in numbers if number not in rungs[rung]),
            key=lambda each: (each.plan.strategy.is_routable, each.plan.quantization or ""),
        )
        telling.begin(f"rung {rung + 1} of {total}", len(numbers), len(numbers) - len(chosen))
        for candidate in chosen:
            telling.about = candidate.name
            before = rungs[rung - 1][candidate.number] if rung else None
            if before is not None and before.is_over:
                rungs[rung][candidate.number] = before
            else:
                pause_at = last_step(rung, total, candidate.steps, candidate.plan.settings)
                rungs[rung][candidate.number] = trainer.train(candidate, pause_at)
            write_rungs(folder, rungs)
            telling.count()
        _note_rung(candidates, rungs, rung, sink)
    trainer.close()
    return rungs


def _note_rung(candidates: Sequence[Candidate], rungs: Rungs, rung: int, sink: Sink) -> None:
    """Say who leads, and let go of the checkpoints of those that do not go on.

    Raises:
        RunError: No candidate is left.
    """
    standings, first = rungs[rung], ranked(rungs[rung])[0]
    best = standings[first]
    if best.ended == "failed":
        raise RunError(
            f"no candidate is left; `{candidates[first].name}`: {best.note}",
            where=candidates[first].run.path,
            hint="vary other values, or mend what the message names",
        )
    going_on = survivors(standings, rung, len(candidates))
    for number in set(standings) - set(going_on):
        for name in ("checkpoints", "best"):
            shutil.rmtree(candidates[number].run.path / name, ignore_errors=True)
    sink(
        Noted(
            f"rung {rung + 1}: the best of {len(standings)} is {candidates[first].name}, "
            f"held-out loss {best.loss:.3f} at step {best.step}"
        )
    )


def _finish(candidates: Sequence[Candidate], rungs: Rungs, folder: RunFolder) -> dict[str, Any]:
    """Write the winner's spec, the result and the page."""
    winner = candidates[ranked(rungs[-1])[0]]
    spec_file = folder.path / "winner.json"
    write_json(spec_file, winner.project.spec.model_dump(mode="json"))
    rows = [_row(each, rungs) for each in candidates]
    result = {
        "winner": winner.name,
        "number": winner.number,
        "validation_loss": rungs[-1][winner.number].loss,
        "spec": str(spec_file),
        "model": None,
        "path": str(folder.path),
        "page": str(folder.path / "sweep.html"),
        "candidates": rows,
        "steps": sum(row["steps"] for row in rows),
        "planned_steps": sum(row["planned_steps"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 2),
        "rungs": [{str(n): asdict(s) for n, s in rung.items()} for rung in rungs],
    }
    curves = {each.name: each.run.metrics for each in candidates if each.run.metrics.is_file()}
    write_page(folder.path / "sweep.html", winner.project, result, curves)
    write_json(folder.path / "sweep.json", result)
    return result


def _row(candidate: Candidate, rungs: Rungs) -> dict[str, Any]:
    """Return what the table says of a candidate."""
    reached = max(rung for rung, found in enumerate(rungs) if candidate.number in found)
    standing = rungs[reached][candidate.number]
    return {
        "number": candidate.number,
        "name": candidate.name,
        "strategy": candidate.plan.chosen.name,
        "trainable_parameters": candidate.plan.trainable.parameters,
        "learning_rate": candidate.plan.settings.learning_rate,
        "validation_loss": standing.loss,
        "steps": standing.step,
        "planned_steps": candidate.steps,
        "rung": reached + 1,
        "seconds": standing.seconds,
        "ended": standing.ended,
        "note": standing.note,
    }


def _keep_winner(
    project: Project,
    base: Base,
    folder: RunFolder,
    result: dict[str, Any],
    halvings: int,
    sink: Sink,
) -> dict[str, Any]:
    """Bring the winner's run, which is trained to its end, among the runs, and finish it there."""
    source = folder.path / "candidates" / f"{result['number']:02d}"
    spec = Spec.model_validate(read_json(source / "spec.json"))
    winner = project.model_copy(update={"spec": spec})
    with claimed_run(winner, base, out=None, resume=False) as run, writing(run.path):
        for name in reversed(_KEPT):  # the record last: it makes a run of a folder
            path = source / name
            if path.is_dir():
                shutil.copytree(path, run.path / name)
            else:
                shutil.copy2(path, run.path / name)
    trained = train_project(winner, out=run.path, resume=True, halvings=halvings, sink=sink)
    result = {**result, "model": trained.result["model"]}
    write_json(folder.path / "sweep.json", result)
    return result
