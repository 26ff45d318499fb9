"""Trains the candidates of a sweep in turn, on one base that is loaded once."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

from tunefork.core.errors import InternalError, RunError
from tunefork.core.events import Event, Progress, Sink, StepDone, Warned
from tunefork.core.memory import keep_few_kernels, keep_freed_memory
from tunefork.models import Head, Quantization, hash_parameters, load_model
from tunefork.objectives import Objective
from tunefork.strategies import Adapter, Strategy
from tunefork.training import CheckpointStore, TrainingData, TrainStep, train
from tunefork.workflow.derive import Derived
from tunefork.workflow.first_step import before_first_step
from tunefork.workflow.objective import build_objective, head_parameters, with_references
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.rollouts import Learner, with_rollouts
from tunefork.workflow.runs import RunFiles, RunFolder, write_record
from tunefork.workflow.spec import Project
from tunefork.workflow.sweep_rungs import Standing


@dataclass(frozen=True)
class Candidate:
    """One way to train: a run like any other, in a folder of its own."""

    number: int
    name: str
    project: Project  # its spec has every number written out
    plan: Derived
    run: RunFolder
    steps: int  # of the whole run


@dataclass(frozen=True)
class _Loaded:
    """A base in memory, and the rows with what it makes of them."""

    model: Any
    quantization: Quantization | None
    data: TrainingData
    frozen_hash: str


class Trainer:
    """Holds one model at a time. Only the candidate that trains is on it.

    Adapters are put on and taken off; what they have learned lies in their checkpoints. Full
    fine-tuning changes the base itself, and so gets a model that is loaded for it alone.
    """

    def __init__(self, prepared: Prepared, sink: Sink) -> None:
        self._prepared = prepared
        self._sink = sink
        self._shared: _Loaded | None = None
        keep_freed_memory()
        keep_few_kernels()

    def train(self, candidate: Candidate, pause_at: int | None) -> Standing:
        """Train a candidate on from where it stands, up to a step or to its end."""
        loaded = self._load(candidate)
        made = build_objective(candidate.project.spec, loaded.model, self._prepared)
        # A copy: it holds what it trains, and nobody else holds it.
        strategy = copy.deepcopy(candidate.plan.strategy)
        strategy.attach(loaded.model, candidate.plan.settings.seed)
        try:
            return self._train(candidate, strategy, loaded, made, pause_at)
        except RunError as error:  # of this candidate's settings: the others go on
            return Standing(0, None, 0.0, "failed", error.message)
        finally:
            if strategy.is_routable:
                cast(Adapter, strategy).take(loaded.model)

    def close(self) -> None:
        """Let go of the base.

        Raises:
            InternalError: It is not what was loaded.
        """
        loaded, self._shared = self._shared, None
        if loaded is None:
            return
        if hash_parameters(loaded.model.named_parameters()) != loaded.frozen_hash:
            raise InternalError(
                "the base changed while adapters were trained on it",
                where=self._prepared.base.folder,
                hint="its files are as they were; run the sweep anew",
            )

    def _train(
        self,
        candidate: Candidate,
        strategy: Strategy,
        loaded: _Loaded,
        made: tuple[Objective, Head | None],
        pause_at: int | None,
    ) -> Standing:
        objective, head = made
        run, settings = candidate.run, candidate.plan.settings
        store = CheckpointStore(run.path)
        step_module = TrainStep(loaded.model, objective, settings, head)
        if store.is_empty():
            write_record(run, candidate.project, self._prepared, candidate.plan, loaded.model)
        learner = Learner(loaded.model, strategy, head, loaded.quantization)
        opened = with_rollouts(candidate.project, self._prepared, loaded.data, learner, self._sink)
        with opened as data:
            if store.is_empty():
                settings = before_first_step(
                    step_module, candidate.plan.chosen, strategy, data, settings, self._sink
                )
            outcome = train(
                step_module,
                strategy.parameters(loaded.model) | head_parameters(head),
                data,
                settings,
                store,
                RunFiles(run, self._sink),
                strategy.rate_factors(loaded.model),
                pause_at,
            )
        state = outcome.state
        return Standing(state.step, state.best_loss, round(state.seconds, 3), outcome.reason)

    def _load(self, candidate: Candidate) -> _Loaded:
        plan = candidate.plan
        if not plan.strategy.is_routable:
            self.close()
            return self._load_anew(candidate)
        if self._shared is None or self._shared.quantization != plan.quantization:
            self.close()
            self._shared = self._load_anew(candidate)
        return self._shared

    def _load_anew(self, candidate: Candidate) -> _Loaded:
        prepared, quantization = self._prepared, candidate.plan.quantization
        model = load_model(prepared.base, quantization=quantization)
        objective, _ = build_objective(candidate.project.spec, model, prepared)
        data = with_references(
            objective, model, prepared.data, prepared.base, self._sink, quantization
        )
        frozen_hash = hash_parameters(model.named_parameters())
        return _Loaded(model, quantization, data, frozen_hash)


class Telling:
    """A sink for the training of candidates: how far a rung is, and warnings with a name."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._what, self._total, self._done = "", 0, 0
        self.about = ""

    def begin(self, what: str, total: int, done: int) -> None:
        """Begin to count the candidates of a rung."""
        self._what, self._total, self._done = what, total, done
        self._tell()

    def count(self) -> None:
        """Count one more."""
        self._done += 1
        self._tell()

    def __call__(self, event: Event) -> None:
        """Pass on what concerns the user, and keep the progress shown alive."""
        if isinstance(event, Warned):
            self._sink(Warned(f"{self.about}: {event.message}"))
        elif isinstance(event, StepDone):
            self._tell()
        elif isinstance(event, Progress):
            self._sink(event)

    def _tell(self) -> None:
        self._sink(Progress(self._what, self._done, self._total))
