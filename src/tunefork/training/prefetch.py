"""The rows of the next step are packed in a thread while the current step computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

import torch

from tunefork.data.items import Items
from tunefork.models import Batch, collate
from tunefork.training.guards import name_training
from tunefork.training.packing import Plan, TrainingData
from tunefork.training.settings import TrainSettings


@dataclass(frozen=True)
class StepRows:
    """What one optimizer step learns from: packed rows, and which items each of them holds."""

    packed: tuple[tuple[list[int], Batch], ...]
    weight: float  # of all of them together, as the objective weighs them
    source: Items  # that the numbers count
    name: Callable[[int], str]  # what to call an item in messages
    metrics: Mapping[str, float] = field(default_factory=dict)  # known before the step

    @property
    def items(self) -> list[int]:
        """The numbers of all its items."""
        return sorted(item for chosen, _ in self.packed for item in chosen)

    @property
    def n_tokens(self) -> int:
        """Tokens of all its rows, trained or not."""
        return sum(batch.n_tokens for _, batch in self.packed)


class Ahead:
    """Gives the rows of each step, and meanwhile packs those of the next.

    What a step holds follows from its number alone, so nothing depends on the thread's timing.
    """

    reason: str | None = None  # it never asks for the run to end

    def __init__(
        self,
        data: TrainingData,
        items: Items,
        device: torch.device,
        weigh: Callable[[Batch], float],
    ) -> None:
        self._data = data
        self._items = items
        self._name = name_training(data)
        self._weigh = weigh
        self._device = device
        self._plan: Plan | None = None  # used by the thread alone
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tunefork-pack")
        self._pending: tuple[int, int, Future[StepRows]] | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    def note(self, metrics: Mapping[str, float]) -> None:
        """Learn nothing of what a step told."""

    def state(self, step: int) -> dict[str, torch.Tensor]:
        """Return nothing: the steps follow from their numbers."""
        return {}

    def load_state(self, step: int, tensors: dict[str, torch.Tensor]) -> None:
        """Take back nothing."""

    def take(self, step: int, settings: TrainSettings, steps: int) -> StepRows:
        """Return a step's rows, and begin with those of the next of `steps` steps."""
        wanted = (step, settings.micro_tokens)
        if self._pending is not None and self._pending[:2] == wanted:
            found = self._pending[2]
        else:
            found = self._worker.submit(self._pack, step, settings)
        self._pending = None
        if step + 1 < steps:
            coming = self._worker.submit(self._pack, step + 1, settings)
            self._pending = (step + 1, settings.micro_tokens, coming)
        return found.result()

    def _pack(self, step: int, settings: TrainSettings) -> StepRows:
        if self._plan is None or self._plan.settings.micro_tokens != settings.micro_tokens:
            self._plan = Plan(self._data, settings)
        packed = tuple(
            (chosen, collate(self._items, chosen, self._device))
            for chosen in self._plan.micro_batches(step)
        )
        weight = sum(self._weigh(batch) for _, batch in packed)
        return StepRows(packed, weight, self._items, self._name)
