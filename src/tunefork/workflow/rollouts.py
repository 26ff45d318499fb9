"""Put together what `grpo` and `ppo` learn from: prompts, judges, the policy and its base."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from tunefork.core.events import Noted, Sink
from tunefork.data import Items, Prompt, TokenRows, known_of
from tunefork.models import Head, Quantization, load_model
from tunefork.objectives import (
    Asked,
    Expectations,
    Groups,
    Rollouts,
    Speaker,
    Watch,
)
from tunefork.objectives.rollouts import Finish, Reference
from tunefork.strategies import Strategy
from tunefork.training import TrainingData
from tunefork.workflow.judging import Judges, opened_judges
from tunefork.workflow.objective_specs import FromRewards, GrpoSpec, PpoSpec
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Project


@dataclass(frozen=True)
class Learner:
    """The model that learns, with what is attached to it."""

    model: Any
    strategy: Strategy
    head: Head | None
    quantization: Quantization | None = None


@contextlib.contextmanager
def with_rollouts(
    project: Project, prepared: Prepared, data: TrainingData, learner: Learner, sink: Sink
) -> Iterator[TrainingData]:
    """Give the data with rollouts, where the objective learns from rewards; else as it is.

    Raises:
        InputError: What gives the rewards cannot be used.
    """
    objective = project.spec.objective
    if not isinstance(objective, FromRewards):
        yield data
        return
    with opened_judges(project) as judges:
        if judges.sandboxed is not None:
            sink(Noted(judges.sandboxed))
        yield replace(data, rollouts=_rollouts(project, prepared, data, learner, judges, sink))


def _rollouts(
    project: Project,
    prepared: Prepared,
    data: TrainingData,
    learner: Learner,
    judges: Judges,
    sink: Sink,
) -> Rollouts:
    spec, prompts = project.spec.objective, prepared.prompts
    assert isinstance(spec, FromRewards), "it learns from rewards"
    assert prompts is not None, "the rows are prompts"
    training = asked_of(data.rows, prompts.training, judges, data.name_row)
    held_out = None
    if data.validation is not None:
        held_out = asked_of(data.validation, prompts.held_out, judges, data.name_held_out)
    speaker = speaker_of(project, prepared, learner.model, spec.answers)
    return Rollouts(
        speaker,
        training,
        held_out,
        _finish(spec, prepared, learner, sink),
        Watch(spec.max_divergence, sink),
        sink,
        passes=spec.passes,
        redraws=isinstance(spec, GrpoSpec) and spec.variant == "dapo",
    )


def speaker_of(project: Project, prepared: Prepared, model: Any, n_answers: int) -> Speaker:
    """Return a model as it answers prompts, so many times each."""
    spec = project.spec.objective
    assert isinstance(spec, FromRewards), "it learns from rewards"
    return Speaker(
        model,
        prepared.renderer,
        n_answers=n_answers,
        max_tokens=spec.max_tokens,
        seed=project.spec.training.seed,
    )


def _finish(spec: GrpoSpec | PpoSpec, prepared: Prepared, learner: Learner, sink: Sink) -> Finish:
    if isinstance(spec, GrpoSpec):
        return Groups(
            learner.model,
            _reference(prepared, learner, sink) if spec.kl_cost else None,
            divides=spec.variant != "dr_grpo",
            keeps_old=spec.passes > 1,
        )
    assert learner.head is not None, "it expects rewards"
    return Expectations(
        learner.model,
        _reference(prepared, learner, sink),
        learner.head,
        coefficient=spec.kl,
        target=spec.target_kl,
        discount=spec.discount,
        trace=spec.trace,
    )


def _reference(prepared: Prepared, learner: Learner, sink: Sink) -> Reference:
    """Return what gives the base: the model with its adapter off, or else a second one."""
    if learner.strategy.is_disableable:

        def switched_off() -> AbstractContextManager[Any]:
            return _off(learner)

        return switched_off
    sink(
        Noted(
            f"`{learner.strategy.name}` changes the base itself, so a second copy of it is in "
            "memory to measure the divergence by"
        )
    )
    base = load_model(prepared.base, quantization=learner.quantization)
    return lambda: contextlib.nullcontext(base)


@contextlib.contextmanager
def _off(learner: Learner) -> Iterator[Any]:
    with learner.strategy.disabled(learner.model):
        yield learner.model


def asked_of(
    rows: TokenRows | Items,
    prompts: Sequence[Prompt],
    judges: Judges,
    name: Callable[[int], str] | None,
) -> Asked:
    """Return prompts with who judges answers to them."""
    return Asked(
        Items.of(rows).rows,
        judges.of(prompts),
        name or (lambda row: f"prompt {row + 1}"),
        lambda row: str(known_of(prompts[row])["question"]),
    )
