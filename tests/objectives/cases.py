"""The objectives that the battery of properties is run over, and what they learn from."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.small import VOCABULARY, packed_model, random_rows
from tests.strategies import cases as strategies
from tunefork.core.events import no_sink
from tunefork.data import Items, Rendered, TokenRows
from tunefork.models import Head, collate
from tunefork.objectives import (
    LABEL,
    Classify,
    ClassifyNames,
    ClassifySeveral,
    Dpo,
    Grpo,
    Kto,
    Objective,
    Orpo,
    Ppo,
    Pretrain,
    Reward,
    Sft,
    Simpo,
    with_reference,
)
from tunefork.objectives.grpo import ADVANTAGE, BASE, OLD
from tunefork.objectives.ppo import RETURN, VALUE


def random_pairs(count: int, seed: int = 0) -> Items:
    """Return pairs of rows that begin with the same prompt, long enough to be computed once."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        prompt = random.integers(4, VOCABULARY, random.integers(3, 50)).tolist()
        for _ in range(2):
            answer = random.integers(4, VOCABULARY, random.integers(2, 9)).tolist()
            rows.append(Rendered([*prompt, *answer], [0.0] * len(prompt) + [1.0] * len(answer)))
    return Items(TokenRows.from_rendered(rows), np.arange(0, 2 * count + 1, 2))


def random_judged(count: int, seed: int = 0) -> Items:
    """Return single answers, about half of them good."""
    rows = random_rows(count, seed)
    is_good = (np.arange(count) % 2).astype(np.float32)
    return Items(rows, columns={"is_good": is_good})


def random_labelled(count: int, seed: int = 0) -> Items:
    """Return texts with one of three labels, behind which their answers stand."""
    labels = (np.arange(count) % 3).astype(np.float32)
    return Items(random_rows(count, seed), columns={LABEL: labels})


def random_answers(count: int, seed: int = 0) -> Items:
    """Return answers, two to each prompt, with what is known of them when they were drawn."""
    pairs = random_pairs(-(-count // 2), seed)
    rows = pairs.rows.select(np.arange(count))
    random = np.random.default_rng(seed)
    items = Items(rows, columns={ADVANTAGE: random.normal(size=count).astype(np.float32)})
    for name, middle in ((OLD, -4.5), (BASE, -4.5), (VALUE, 0.0), (RETURN, 0.5)):
        values = random.normal(middle, 0.1, rows.n_tokens).astype(np.float32)
        items = items.with_along(name, values * (rows.weights > 0))
    return items.with_along(ADVANTAGE, random.normal(size=rows.n_tokens).astype(np.float32))


def random_several(count: int, seed: int = 0) -> Items:
    """Return texts with any of three labels: one, two, or none."""
    numbers = np.arange(count)
    has = np.stack([numbers % 3 == 0, numbers % 2 == 0, numbers % 5 == 4], axis=1)
    return Items(random_rows(count, seed), columns={LABEL: has.astype(np.float32)})


def small_head(n_outputs: int) -> Head:
    """Return a head for the small models, large enough that what it is given can be learned."""
    generator = torch.Generator().manual_seed(4)
    return Head(0.3 * torch.randn(n_outputs, 32, generator=generator))


def _single(count: int, seed: int = 0) -> Items:
    return Items(random_rows(count, seed))


@dataclass(frozen=True)
class Case:
    """An objective, and rows of the kind that it takes."""

    name: str
    objective: Objective
    rows: Callable[..., Items]  # (count, seed) → items, not yet arranged
    is_cut_free: bool = True  # the loss does not depend on what is computed at once
    learning_rate: float = 1e-2  # at which two steps on few rows do not go too far

    def items(self, count: int, seed: int = 0, model: Any = None) -> Items:
        """Return items as the loop gets them."""
        found = self.objective.arrange(self.rows(count, seed))
        if not self.objective.needs_reference:
            return found
        base = packed_model("llama") if model is None else model
        return with_reference(base, found, {}, "rows", no_sink)


_VALUE_HEAD = Head(torch.zeros(1, 32))
CASES = [
    Case("sft", Sft(), _single),
    Case("dpo", Dpo(), random_pairs),
    Case("ipo", Dpo(form="ipo"), random_pairs),
    Case("dpo-with-all", Dpo(0.3, "sigmoid", 0.1, True, 0.5), random_pairs),
    Case("kto", Kto(good_weight=1.2), random_judged, is_cut_free=False),
    Case("orpo", Orpo(), random_pairs),
    Case("simpo", Simpo(), random_pairs),
    Case("pretrain", Pretrain(), _single),
    Case("reward", Reward(head=small_head(1)), random_pairs, learning_rate=1e-3),
    Case(
        "classify",
        Classify(head=small_head(3), weights=torch.tensor([0.5, 1.0, 1.5])),
        random_labelled,
        learning_rate=1e-3,
    ),
    Case("grpo", Grpo(), random_answers),
    Case("dapo", Grpo(kl=0.0, clip_high=0.28, average="token"), random_answers),
    Case("ppo", Ppo(head=_VALUE_HEAD), random_answers),
    Case(
        "classify-several",
        ClassifySeveral(head=small_head(3), weights=torch.tensor([0.5, 1.0, 1.5])),
        random_several,
        learning_rate=1e-3,
    ),
    Case("classify-names", ClassifyNames(weights=torch.tensor([0.5, 1.0, 1.5])), random_labelled),
]


def first_losses(case: Case, strategy: strategies.Case, device: str) -> list[float]:
    """Return the losses before and after each of two steps on the same four rows."""
    items = case.items(4, model=strategy.model("llama"))
    model, method = strategy.model("llama").to(device), strategy.make("llama")
    objective = _moved(case.objective, device)
    method.attach(model, 1)
    optimizer = strategies.optimizer_for(method, model)
    batch = collate(items, range(4), device)
    losses = []
    for _ in range(3):
        loss = objective.loss(model, batch)
        losses.append(loss.total.item())
        torch.autograd.backward(loss.total / loss.weight)
        optimizer.collect()
        optimizer.step(case.learning_rate)
    return losses


def _moved(objective: Any, device: str) -> Any:
    """Return an objective whose own tensors are on a device."""
    own = {name: copy.deepcopy(getattr(objective, name, None)) for name in ("head", "weights")}
    there = {name: value.to(device) for name, value in own.items() if value is not None}
    return dataclasses.replace(objective, **there) if there else objective
