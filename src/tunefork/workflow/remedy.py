"""Do something about a run that forgot too much, and measure what comes of it.

Each remedy makes a new run, judged on the sealed questions like any other: one attempt more.
Which there are, and what they change, is in `remedies`. Entry point: `apply_remedy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from tunefork.core.errors import RunError, UsageError
from tunefork.core.events import Noted, Progress, Sink
from tunefork.core.files import home, new_folder, read_json, write_json
from tunefork.data import Items
from tunefork.evaluation import forgetting_of
from tunefork.inference import ChatModel, score_rows
from tunefork.models import find_base
from tunefork.strategies import Lora
from tunefork.workflow.claim import claimed_run
from tunefork.workflow.measure import answer_probe, general_probe
from tunefork.workflow.opened import CARD, open_model
from tunefork.workflow.prepare import Prepared, prepare_again
from tunefork.workflow.remedies import Remedy, changed, offered
from tunefork.workflow.run import run_project
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.strategy_specs import LoraSpec

_SCALES = tuple(step / 10 for step in range(10, 0, -1))


@dataclass(frozen=True)
class Point:
    """What is left of gain and forgetting at one scale, on held-out rows and select questions."""

    scale: float
    held_out_loss: float
    forgetting: float
    high: float  # upper end of its interval


def apply_remedy(name: str, by: str, *, out: Path | None = None, sink: Sink) -> dict[str, Any]:
    """Apply a remedy to a finished run, and measure what comes of it as `run` does.

    Args:
        name: The run's name or folder.
        by: Which remedy.
        out: The new run's folder; by default one under the home folder.
        sink: Receives what happens.

    Raises:
        InputError: There is no such run, or it does not allow this remedy.
    """
    run = finished_run(name)
    spec = Spec.model_validate(read_json(run.spec_file))
    project = Project(spec=spec, folder=run.path, name=str(run.record["project"]))
    allowed = offered(spec)
    if by not in get_args(Remedy):
        raise UsageError(f"there is no remedy `{by}`", hint=f"there are {', '.join(allowed)}")
    if by not in allowed:
        raise UsageError(
            f"`{by}` does not fit how `{name}` was trained",
            hint=f"what does is {', '.join(allowed)}" if allowed else "change the spec by hand",
        )
    if by == "scale":
        return _scale(project, run, out, sink)
    return run_project(changed(project, by), out=out, sink=sink)


def finished_run(name: str) -> RunFolder:
    """Return a finished run by its name or folder.

    Raises:
        RunError: There is none.
    """
    for path in (Path(name), home() / "runs" / name):
        if (path / "record.json").is_file():
            if not (path / "result.json").is_file():
                raise RunError(f"the run `{name}` is not finished", where=path, hint="`--resume`")
            return RunFolder(path.resolve(), read_json(path / "record.json")["identity"])
    raise RunError(f"there is no run `{name}`", hint="`tunefork runs list` shows what there is")


def _scale(project: Project, run: RunFolder, out: Path | None, sink: Sink) -> dict[str, Any]:
    """Keep as much of the learned change as stays within the budget."""
    opened = open_model(str(run.path))
    assert isinstance(opened.strategy, Lora), "only LoRA is offered this"
    prepared = prepare_again(project, sink, run.kept_out)
    with opened.base_chat() as chat:
        base_right = answer_probe(chat, general_probe("select"), "base", sink)
    curve: list[Point] = []
    before = 1.0
    for number, scale in enumerate(_SCALES, 1):
        opened.strategy.scale(opened.chat.model, scale / before)
        before = scale
        curve.append(_point(scale, opened.chat, base_right, prepared, sink))
        sink(Progress("scales", number, len(_SCALES)))
    chosen = choose(curve, project.spec.gate.max_forgetting)
    if chosen is None:
        raise RunError(
            "at no scale does it forget little enough and still gain",
            where=run.path,
            hint="train again: `--by gentle`, `--by replay` or `--by rate`",
        )
    sink(Noted(f"keeping {chosen.scale:.0%} of the learned change"))
    opened.strategy.scale(opened.chat.model, chosen.scale / before)
    scaled = _with_scale(project, chosen.scale)
    base = find_base(scaled.spec.base, relative_to=scaled.folder)
    with claimed_run(scaled, base, out=out, resume=True) as new:
        if new.result is None:
            with new_folder(new.model) as folder:
                opened.strategy.save(opened.chat.model, folder, base)
                write_json(folder / CARD, {**read_json(run.model / CARD), "run": new.name})
            _write_run(new, run, scaled, curve)
    return run_project(scaled, out=new.path, resume=True, sink=sink)


def choose(curve: Sequence[Point], budget: float) -> Point | None:
    """Return the point with the lowest held-out loss of those surely within the budget.

    Where none is sure, the points within it that forgot least; None where none is within.
    """
    sure = [point for point in curve if point.high <= budget]
    if sure:
        return min(sure, key=lambda point: point.held_out_loss)
    within = [point for point in curve if point.forgetting <= budget]
    return min(within, key=lambda point: point.high) if within else None


def _point(
    scale: float, chat: ChatModel, base_right: Sequence[bool], prepared: Prepared, sink: Sink
) -> Point:
    items = general_probe("select")
    right = answer_probe(chat, items, f"scale {scale:.1f}", sink)
    found = forgetting_of(
        [float(each) for each in base_right],
        [float(each) for each in right],
        [item.group for item in items],
    )
    held_out = prepared.data.validation
    assert held_out is not None, "a run that chose its best weights held rows out"
    scores = score_rows(chat.model, Items.of(held_out).rows)
    loss = -sum(s.log_probability for s in scores) / max(1.0, sum(s.weight for s in scores))
    return Point(scale, loss, found.drop, found.high)


def _with_scale(project: Project, scale: float) -> Project:
    strategy = project.spec.strategy
    assert isinstance(strategy, LoraSpec), "only LoRA is offered this"
    changed = strategy.model_copy(update={"scale": round(strategy.scale * scale, 4)})
    spec = project.spec.model_copy(update={"strategy": changed})
    return project.model_copy(update={"spec": spec})


def _write_run(new: RunFolder, run: RunFolder, project: Project, curve: Sequence[Point]) -> None:
    """Write the records of a run that was made of another one; the result comes last."""
    write_json(new.record_file, {**run.record, "identity": new.identity})
    write_json(new.spec_file, project.spec.model_dump(mode="json"))
    new.metrics.write_bytes(run.metrics.read_bytes())
    result = {
        **(run.result or {}),
        "run": new.name,
        "model": new.model_name,
        "path": str(new.model),
        "strategy": project.spec.strategy.model_dump(),
        "remedy": {"of": run.name, "by": "scale", "curve": [asdict(point) for point in curve]},
    }
    write_json(new.path / "result.json", result)
