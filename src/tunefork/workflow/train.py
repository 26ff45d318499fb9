"""Train what a spec asks for, in this process, and leave the result in a run folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from tunefork.core.errors import InternalError
from tunefork.core.events import Noted, SettingsChosen, Sink, Warned
from tunefork.core.files import new_folder, write_json
from tunefork.core.memory import (
    keep_few_kernels,
    keep_freed_memory,
    peak_resident_bytes,
    resident_bytes,
)
from tunefork.data import Prompts
from tunefork.evaluation import Setting
from tunefork.models import Base, find_base, hash_parameters, load_model
from tunefork.strategies import Adapter, Lora, Strategy, save_head
from tunefork.strategies.effect import check_effect
from tunefork.training import CheckpointStore, TrainResult, TrainStep, memory_errors
from tunefork.training import train as run_loop
from tunefork.workflow.claim import claimed_run
from tunefork.workflow.derive import Derived, derive
from tunefork.workflow.first_step import before_first_step
from tunefork.workflow.heads import head_card
from tunefork.workflow.measure import general_probe
from tunefork.workflow.objective import (
    build_objective,
    head_parameters,
    kept_head,
    with_references,
)
from tunefork.workflow.objective_specs import JUDGES
from tunefork.workflow.opened import write_card
from tunefork.workflow.prepare import Prepared, prepare
from tunefork.workflow.register import register_data, register_run
from tunefork.workflow.rollouts import Learner, with_rollouts
from tunefork.workflow.runs import (
    RunFiles,
    RunFolder,
    changes_since,
    pin_date,
    write_record,
)
from tunefork.workflow.snapshots import Snapshots
from tunefork.workflow.spec import Project
from tunefork.workflow.strategy_specs import LoraSpec
from tunefork.workflow.watch import general_watch


@dataclass(frozen=True)
class Trained:
    """What training ended with; `result` is what `train --json` prints."""

    run: RunFolder
    project: Project  # with its date pinned
    result: dict[str, Any]
    prepared: Prepared | None  # None where the run was finished before


def train_project(
    project: Project,
    *,
    out: Path | None = None,
    resume: bool = False,
    halvings: int = 0,
    is_registered: bool = True,
    kept_out: Prompts | None = None,
    snapshots: Path | None = None,
    sink: Sink,
) -> Trained:
    """Train a project's model, or return the finished one.

    Args:
        project: What to train.
        out: The run's folder; by default one under the home folder.
        resume: Go on where an interrupted run of this project stopped.
        halvings: How often to halve what is computed at once, since memory ran out before.
        is_registered: Write data, run and model into the registry.
        kept_out: Questions whose rows are left out; by default the golden ones, or those that
            the run to be resumed has left out.
        snapshots: Where to keep the model as it is at each of the last checkpoints.
        sink: Receives what happens.

    Raises:
        InputError: Spec, data, base or folder cannot be used; nothing was written then.
        Stopped: The user asked for it; `resume` goes on.
    """
    base = find_base(project.spec.base, relative_to=project.folder)
    with claimed_run(project, base, out=out, resume=resume) as run:
        project = pin_date(project, run)
        if run.result is not None:
            sink(Noted(f"training in {run.path} is finished already"))
            if is_registered:
                register_run(run, base, register_data(project, sink), sink)
            return Trained(run, project, run.result, None)
        with memory_errors(f"training `{base.name}`"):
            prepared = prepare(project, sink, run.kept_out or kept_out)
            data = register_data(project, sink) if is_registered else {}
            derived = derive(project.spec, base, prepared.data, begun=run.strategy)
            plan = halved(derived, halvings)
            sink(SettingsChosen(plan.origins))
            keeping = Snapshots(snapshots, project, run, base, plan) if snapshots else None
            result = _train(
                project, run, prepared, plan, resume=resume, snapshots=keeping, sink=sink
            )
        if is_registered:
            register_run(run, base, data, sink)
    return Trained(run, project, result, prepared)


def _train(
    project: Project,
    run: RunFolder,
    prepared: Prepared,
    plan: Derived,
    *,
    resume: bool,
    snapshots: Snapshots | None = None,
    sink: Sink,
) -> dict[str, Any]:
    base = prepared.base
    keep_freed_memory()
    keep_few_kernels()
    before_bytes = resident_bytes()
    model = load_model(base, quantization=plan.quantization)
    objective, head = build_objective(project.spec, model, prepared)
    data = with_references(objective, model, prepared.data, base, sink, plan.quantization)
    data = general_watch(
        model,
        # Who gives no answers has nothing to forget.
        () if project.spec.objective.name in JUDGES else general_probe("select"),
        prepared.renderer,
        data,
        plan.settings,
        project.spec.gate.max_forgetting,
        sink,
    )
    plan.strategy.attach(model, plan.settings.seed)
    frozen_hash = hash_parameters(plan.strategy.frozen(model).items())
    store, settings = CheckpointStore(run.path), plan.settings
    learner = Learner(model, plan.strategy, head, plan.quantization)
    with with_rollouts(project, prepared, data, learner, sink) as data:
        if store.is_empty():
            write_record(run, project, prepared, plan, model)
            if resume:
                sink(Noted(f"nothing to resume: starting anew in {run.path}"))
        elif changes := changes_since(run, model):
            what = "; ".join(changes)
            sink(Warned(f"since the run began, {what}: the result will not be the same bits"))
        step_module = TrainStep(model, objective, settings, head)
        if store.is_empty():
            settings = before_first_step(
                step_module, plan.chosen, plan.strategy, data, settings, sink
            )
        outcome = run_loop(
            step_module,
            plan.strategy.parameters(model) | head_parameters(head),
            data,
            settings,
            store,
            RunFiles(run, snapshots.sink(model, sink) if snapshots else sink),
            plan.strategy.rate_factors(model),
        )
    head = kept_head(project.spec, head)
    _check_base(base, run, frozen_hash, plan.strategy, model)
    effect = None
    if plan.strategy.is_disableable:
        effect = check_effect(model, cast(Adapter, plan.strategy), run.path).size
    if isinstance(plan.chosen, LoraSpec) and plan.chosen.scale != 1:
        cast(Lora, plan.strategy).scale(model, plan.chosen.scale)
    with new_folder(run.model) as folder:
        plan.strategy.save(model, folder, base)
        if head is not None:
            save_head(head, folder)
        card = head_card(project.spec, model, head, prepared, sink)
        write_card(folder, base, project.spec.date, run.name, plan.quantization, card)
    result = {
        **_result(run, prepared, plan, outcome, peak_resident_bytes() - before_bytes),
        "effect": effect,
    }
    write_json(run.path / "result.json", result)
    store.remove()
    return result


def halved(plan: Derived, halvings: int) -> Derived:
    """Return the plan with less computed at once."""
    micro_tokens = max(1, plan.settings.micro_tokens >> halvings)
    return replace(plan, settings=plan.settings.model_copy(update={"micro_tokens": micro_tokens}))


def _check_base(
    base: Base, run: RunFolder, frozen_hash: str, strategy: Strategy, model: Any
) -> None:
    files_same = base.hash_anew() == run.record["base"]["hash"]
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
        "watched_forgetting": state.best_drop,
        "base_validation_loss": state.base_loss,
        "validation_metrics": state.best_metrics,
        "base_validation_metrics": state.base_metrics,
        "seconds": round(state.seconds, 2),
        "skipped_steps": state.skipped,
        "tokens": state.tokens,
        "tokens_per_second": round(state.tokens / max(state.seconds, 1e-9), 1),
        "peak_bytes": peak_bytes,
        "predicted_peak_bytes": plan.memory.total,
        "resumed_from": outcome.resumed_from,
        "trainable_parameters": outcome.trainable_parameters,
        "model_bytes": sum(path.stat().st_size for path in run.model.glob("*.safetensors")),
        "settings": [setting._asdict() for setting in plan.origins],
        "training_settings": plan.settings.model_dump(),
        "strategy": plan.chosen.model_dump(),
        "findings": list(prepared.findings),
        "kept_out": prepared.kept_out.hashes.tolist(),  # golden questions, by `text_hash`
        "preview": [list(map(list, row)) for row in prepared.preview],
    }


def settings_of(result: dict[str, Any]) -> tuple[Setting, ...]:
    """Return the settings that a result lists."""
    return tuple(Setting(**row) for row in result["settings"])
