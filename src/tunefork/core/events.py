"""What a run tells the world. The loop prints nothing: it sends these to its sinks.

A sink is any callable that takes an event: a progress bar, `metrics.jsonl`, a registry, a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataChecked:
    """The data passed every check. `preview` shows rows token by token: (text, is trained)."""

    training_rows: int
    replayed_rows: int
    validation_rows: int
    tokens: int
    trained_tokens: int
    preview: tuple[tuple[tuple[str, bool], ...], ...]


@dataclass(frozen=True)
class SettingsChosen:
    """What a run is trained with: (name, value, `given` or `derived`) of each setting."""

    settings: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class RunStarted:
    """Training begins, or goes on at `step` of a run that was interrupted."""

    steps: int
    step: int
    trainable_parameters: int
    total_parameters: int
    tokens_per_epoch: int


@dataclass(frozen=True)
class StepDone:
    """One optimizer step: `loss` is the weighted mean over what it learned from."""

    step: int
    steps: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int  # tokens seen since the run began
    tokens_per_second: float
    seconds_left: float
    metrics: Mapping[str, float] = field(default_factory=dict)  # of the objective, means too


@dataclass(frozen=True)
class Sampled:
    """Answers that a model drew while it learned from rewards, as plain data, before a step."""

    step: int
    samples: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class Validated:
    """Held-out loss after `step` steps; `is_best` where these weights are the result so far.

    That is the lowest loss of weights that forgot no more than they may. `forgetting` is by how
    much accuracy on general questions is lower than the base's, where that was measured.
    """

    step: int
    loss: float
    is_best: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    forgetting: float | None = None


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint lies on disk, whole."""

    step: int
    path: str


@dataclass(frozen=True)
class Warned:
    """Something the user can act on."""

    message: str


@dataclass(frozen=True)
class Noted:
    """Something the user wants to know, with nothing to act on."""

    message: str


@dataclass(frozen=True)
class RunEnded:
    """Training is over. `reason` is `finished`, `early_stop`, `exploded`, `guarded` or `paused`."""

    step: int
    reason: str
    best_step: int
    best_loss: float | None
    seconds: float


@dataclass(frozen=True)
class Progress:
    """`done` of `total` pieces of some other long work, such as answering questions."""

    what: str
    done: int
    total: int


Event = (
    DataChecked
    | SettingsChosen
    | RunStarted
    | StepDone
    | Sampled
    | Validated
    | CheckpointSaved
    | Warned
    | Noted
    | RunEnded
    | Progress
)
Sink = Callable[[Event], None]


def no_sink(event: Event) -> None:
    """Ignore the event."""
