"""The rows of steps that learn from rewards: answers drawn with the weights as they are then.

Nothing can be prepared ahead, unlike in `prefetch`. A rollout that is gone over more than once is
part of the checkpoints in between, since the weights that drew it are gone.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np
import torch

from tunefork.core.events import Sampled, Sink
from tunefork.data.items import Items
from tunefork.data.tokens import TokenRows
from tunefork.models import collate, pack
from tunefork.objectives import Objective, Rollout, Rollouts
from tunefork.training.packing import Plan, TrainingData
from tunefork.training.prefetch import StepRows
from tunefork.training.settings import TrainSettings

_TABLES = 10  # of samples, over a run
_SHOWN_PROMPTS = 4
_KEY = "rollout."


class Rolling:
    """Gives the rows of each step of `TrainingData` with rollouts."""

    def __init__(
        self, data: TrainingData, rollouts: Rollouts, plan: Plan, objective: Objective, sink: Sink
    ) -> None:
        self._data, self._rollouts, self._plan = data, rollouts, plan
        self._weigh, self._sink = objective.weight, sink
        self._number = -1
        self._rollout: Rollout | None = None

    def __enter__(self) -> Rolling:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    @property
    def reason(self) -> str | None:
        """Why the run should end; None while it should not."""
        return self._rollouts.reason

    def take(self, step: int, settings: TrainSettings, steps: int) -> StepRows:
        """Return a step's rows: of a new rollout, or of one that is gone over again."""
        number = step // self._rollouts.passes
        own, general = self._plan.chosen(step)
        if number != self._number or self._rollout is None:
            self._rollout, self._number = self._rollouts.produce(number, own), number
            self._tell(step, steps)
        rollout = self._rollout
        items, parts = rollout.items, [range(len(rollout.items))]
        if general:
            parts.append(range(len(items), len(items) + len(general)))
            items = Items.concatenate([items, self._plan.items.select(general)])
        device = self._rollouts.device
        packed = tuple(
            (chosen, collate(items, chosen, device))
            for part in parts
            for chosen in pack(items, part, settings.micro_tokens)
        )
        n_own = len(rollout.items)

        def name(item: int) -> str:
            if item < n_own:
                return self._rollouts.name(rollout, item)
            return f"general row {general[item - n_own] - len(self._data.rows) + 1}"

        weight = sum(self._weigh(batch) for _, batch in packed)
        return StepRows(packed, weight, items, name, rollout.metrics)

    def note(self, metrics: dict[str, float]) -> None:
        """Learn what a step told."""
        self._rollouts.note(metrics)

    def state(self, step: int) -> dict[str, torch.Tensor]:
        """Return what the steps from this one on need besides the weights."""
        found = self._rollouts.state()
        if self._rollout is not None and step % self._rollouts.passes:
            found |= _tensors(self._rollout)
        return {f"{_KEY}{name}": tensor for name, tensor in found.items()}

    def load_state(self, step: int, tensors: dict[str, torch.Tensor]) -> None:
        """Take back what `state` returned."""
        found = {
            name.removeprefix(_KEY): tensor
            for name, tensor in tensors.items()
            if name.startswith(_KEY)
        }
        self._rollouts.load_state(found)
        if step % self._rollouts.passes:
            self._rollout, self._number = _rollout(found), step // self._rollouts.passes

    def _tell(self, step: int, steps: int) -> None:
        every = max(1, steps // self._rollouts.passes // _TABLES)
        if self._rollout is None or self._number % every:
            return
        shown = dict.fromkeys(self._rollout.prompts)
        chosen = set(list(shown)[:_SHOWN_PROMPTS])
        samples = zip(self._rollout.prompts, self._rollout.samples, strict=True)
        self._sink(Sampled(step, tuple(sample for prompt, sample in samples if prompt in chosen)))


def _tensors(rollout: Rollout) -> dict[str, torch.Tensor]:
    """Return a rollout as named tensors; its samples were told."""
    items = rollout.items
    arrays = {
        "ids": items.rows.ids,
        "weights": items.rows.weights,
        "offsets": items.rows.offsets,
        "prompts": np.array(rollout.prompts, np.int64),
        **{f"column.{name}": column for name, column in items.columns.items()},
        **{f"along.{name}": each.weights for name, each in items.along.items()},
        **{f"metric.{name}": np.array([value]) for name, value in rollout.metrics.items()},
    }
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _rollout(found: dict[str, torch.Tensor]) -> Rollout:
    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {
            name.removeprefix(prefix): each
            for name, each in found.items()
            if name.startswith(prefix)
        }

    ids, offsets = found["ids"].numpy(), found["offsets"].numpy()
    items = Items(
        TokenRows(ids, found["weights"].numpy(), offsets),
        columns={name: each.numpy() for name, each in under("column.").items()},
        along={
            name: TokenRows(ids, each.numpy(), offsets) for name, each in under("along.").items()
        },
    )
    metrics = {name: float(each[0]) for name, each in under("metric.").items()}
    return Rollout(items, tuple(found["prompts"].tolist()), metrics)
