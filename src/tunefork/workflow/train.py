"""Train what a spec asks for, in this process, and leave the result in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.errors import InternalError
from tunefork.core.events import Sink
from tunefork.core.files import new_folder, write_json
from tunefork.core.memory import peak_resident_bytes, resident_bytes
from tunefork.evaluation import Setting
from tunefork.models import Base, find_base, hash_parameters, load_model
from tunefork.objectives import Sft
from tunefork.strategies import Strategy
from tunefork.training import CheckpointStore, TrainResult, TrainStep
from tunefork.training import train as run_loop
from tunefork.workflow.derive import Derived, derive
from tunefork.workflow.opened import write_card
from tunefork.workflow.prepare import Prepared, prepare
from tunefork.workflow.runs import MetricsFile, RunFolder, find_run, pin_date, write_record
from tunefork.workflow.spec import Project


@dataclass(frozen=True)
class Trained:
    """What training ended with; `result` is what `train --json` prints."""

    run: RunFolder
    project: Project  # with its date pinned
    result: dict[str, Any]


def train_project(
    project: Project, *, out: Path | None = None, resume: bool = False, sink: Sink
) -> Trained:
    """Train a project's model, or return the finished one.

    Raises:
        InputError: Spec, data, base or folder cannot be used; nothing was written then.
    """
    base = find_base(project.spec.base, relative_to=project.folder)
    run = find_run(project, base, out=out, resume=resume)
    project = pin_date(project, run)
    if run.result is not None:
        return Trained(run, project, run.result)
    prepared = prepare(project, sink)
    plan = derive(project.spec, base, prepared.data)
    before_bytes = resident_bytes()
    model = load_model(base)
    plan.strategy.attach(model, plan.settings.seed)
    frozen_hash = hash_parameters(plan.strategy.frozen(model).items())
    write_record(run, project, prepared, plan)
    store = CheckpointStore(run.path)
    outcome = run_loop(
        TrainStep(model, Sft()),
        plan.strategy.parameters(model),
        prepared.data,
        plan.settings,
        store,
        MetricsFile(run.metrics, sink),
    )
    _check_base(base, run, frozen_hash, plan.strategy, model)
    with new_folder(run.model) as folder:
        plan.strategy.save(model, folder, base)
        write_card(folder, base, project.spec.date, run.name)
    result = _result(run, prepared, plan, outcome, peak_resident_bytes() - before_bytes)
    write_json(run.path / "result.json", result)
    store.remove()
    return Trained(run, project, result)


def _check_base(
    base: Base, run: RunFolder, frozen_hash: str, strategy: Strategy, model: Any
) -> None:
    files_same = base.hash() == run.record["base"]["hash"]
    if not files_same or hash_parameters(strategy.frozen(model).items()) != frozen_hash:
        raise InternalError(
            "the base changed while it was being tuned",
            where=base.folder,
            hint="restore its files; nothing may write to them during a run",
        )


def _result(
    run: RunFolder, prepared: Prepared, plan: Derived, outcome: TrainResult, peak_bytes: int
) -> dict[str, Any]:
    state = outcome.state
    return {
        "run": run.name,
        "model": run.model_name,
        "path": str(run.model),
        "steps": state.step,
        "planned_steps": outcome.steps,
        "ended": outcome.reason,
        "best_step": state.best_step,
        "train_loss": state.last_train_loss,
        "validation_loss": state.best_loss,
        "base_validation_loss": state.base_loss,
        "seconds": round(state.seconds, 2),
        "tokens": state.tokens,
        "tokens_per_second": round(state.tokens / max(state.seconds, 1e-9), 1),
        "peak_bytes": peak_bytes,
        "resumed_from": outcome.resumed_from,
        "trainable_parameters": outcome.trainable_parameters,
        "model_bytes": sum(path.stat().st_size for path in run.model.glob("*.safetensors")),
        "settings": [setting._asdict() for setting in plan.origins],
        "training_settings": plan.settings.model_dump(),
        "strategy": plan.strategy.describe(),
        "findings": list(prepared.findings),
        "preview": [list(map(list, row)) for row in prepared.preview],
    }


def settings_of(result: dict[str, Any]) -> tuple[Setting, ...]:
    """Return the settings that a result lists."""
    return tuple(Setting(**row) for row in result["settings"])
