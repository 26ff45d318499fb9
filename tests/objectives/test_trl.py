"""Losses and gradients against TRL's own, on the same batches and weights (see `record_trl`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.objectives.record_trl import POLICY, REFERENCE, gradients, small_llama
from tunefork.core.events import no_sink
from tunefork.data import Items, Rendered, TokenRows
from tunefork.models import Base, adapt_model, collate
from tunefork.objectives import Dpo, Grpo, Kto, Objective, with_reference
from tunefork.objectives.grpo import ADVANTAGE, BASE, OLD
from tunefork.objectives.losses import orpo_losses, simpo_losses

_TOLERANCE = 1e-4
_RECORDED = json.loads((Path(__file__).parent / "trl.json").read_text(encoding="utf-8"))
_BETA = 0.3


def _model(phase: float) -> Any:
    return adapt_model(small_llama(phase), Base("llama", Path("llama")))


def _rows(batch: dict[str, Any], prefix: str = "") -> list[Rendered]:
    """Return TRL's padded rows as ours."""
    keys = (f"{prefix}{key}" for key in ("input_ids", "completion_mask", "attention_mask"))
    return [
        Rendered(
            [token for token, there in zip(ids, is_there, strict=True) if there],
            [float(weight) for weight, there in zip(mask, is_there, strict=True) if there],
        )
        for ids, mask, is_there in zip(*(batch[key] for key in keys), strict=True)
    ]


def _items(rows: list[Rendered], **columns: Any) -> Items:
    starts = np.arange(0, len(rows) + 1, 2)
    return Items(TokenRows.from_rendered(rows), starts, columns)


def _same(objective: Objective, items: Items, recorded: dict[str, Any]) -> None:
    """Compare the mean loss and every gradient; what is shared is computed once, and is not."""
    items = with_reference(_model(REFERENCE), items, {}, "rows", no_sink)
    for shares in (True, False):
        model = _model(POLICY).requires_grad_(True)
        loss = objective.loss(model, collate(items, range(len(items)), shares=shares))
        assert float(loss.weight) == len(items)
        mean = loss.total / loss.weight
        torch.autograd.backward(mean)
        assert mean.item() == pytest.approx(recorded["loss"], rel=_TOLERANCE)
        _same_gradients(model, recorded)


def _same_gradients(model: Any, recorded: dict[str, Any]) -> None:
    for name, (norm, product) in gradients(model).items():
        trl_norm, trl_product = recorded["gradients"][name]
        assert norm == pytest.approx(trl_norm, rel=_TOLERANCE), name
        assert product == pytest.approx(trl_product, abs=_TOLERANCE * trl_norm * 10), name


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("sigmoid", Dpo(beta=_BETA)),
        ("ipo", Dpo(beta=_BETA, form="ipo")),
        ("normalized", Dpo(beta=_BETA, is_length_normalized=True)),
    ],
)
def test_dpo_is_that_of_trl(name: str, objective: Dpo) -> None:
    recorded = _RECORDED[name]
    rows = _rows(recorded["batch"])
    half = len(rows) // 2  # TRL puts all better answers first
    pairs = [row for pair in zip(rows[:half], rows[half:], strict=True) for row in pair]
    _same(objective, _items(pairs), recorded)


def test_kto_is_that_of_trl() -> None:
    recorded = _RECORDED["kto"]
    rows, mixed = _rows(recorded["batch"]), _rows(recorded["batch"], "KL_")
    items = _items(
        [row for pair in zip(rows, mixed, strict=True) for row in pair],
        is_good=np.repeat(np.asarray(recorded["batch"]["label"], np.float32), 2),
    )
    _same(Kto(beta=_BETA, good_weight=1.3, bad_weight=0.8), items, recorded)


def _drawn(batch: dict[str, Any]) -> Items:
    """Return TRL's padded answers, with what it knows of them, as ours."""
    rows: list[Rendered] = []
    old: list[float] = []
    base: list[float] = []
    for at in range(len(batch["prompt_ids"])):
        prompt, said = (
            [
                token
                for token, there in zip(
                    batch[f"{name}_ids"][at], batch[f"{name}_mask"][at], strict=True
                )
                if there
            ]
            for name in ("prompt", "completion")
        )
        rows.append(Rendered([*prompt, *said], [0.0] * len(prompt) + [1.0] * len(said)))
        for found, key in ((old, "old_per_token_logps"), (base, "ref_per_token_logps")):
            found += [*[0.0] * len(prompt), *batch[key][at][: len(said)]]
    advantages = np.array(batch["advantages"], np.float32)
    items = Items(TokenRows.from_rendered(rows), columns={ADVANTAGE: advantages})
    items = items.with_along(OLD, np.array(old, np.float32))
    return items.with_along(BASE, np.array(base, np.float32))


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("grpo", Grpo(kl=0.1)),
        ("dr_grpo", Grpo(kl=0.1, average="constant", longest=32)),
        ("dapo", Grpo(kl=0.0, clip_high=0.28, average="token")),
    ],
)
def test_grpo_is_that_of_trl(name: str, objective: Grpo) -> None:
    recorded = _RECORDED[name]
    items = _drawn(recorded["batch"])
    for shares in (True, False):
        model = _model(POLICY).requires_grad_(True)
        batch = collate(items, range(len(items)), shares=shares)
        loss = objective.loss(model, batch)
        assert loss.metrics["clipped"] > 0
        mean = loss.total / loss.weight
        torch.autograd.backward(mean)
        assert mean.item() == pytest.approx(recorded["loss"], rel=_TOLERANCE, abs=1e-6)
        _same_gradients(model, recorded)


@pytest.mark.parametrize("name", ["orpo", "simpo"])
def test_losses_without_a_reference_are_those_of_trl(name: str) -> None:
    recorded = _RECORDED["formulas"]
    chosen, rejected = (
        torch.tensor(recorded["means"][side], requires_grad=True) for side in ("chosen", "rejected")
    )
    if name == "orpo":
        losses = orpo_losses(chosen, rejected, weight=_BETA)
    else:
        losses = simpo_losses(chosen, rejected, beta=2.0, margin=0.7)
    slopes = torch.autograd.grad(losses.sum(), [chosen, rejected])
    assert losses.tolist() == pytest.approx(recorded[name]["losses"], rel=_TOLERANCE)
    for found, expected in zip(slopes, recorded[name]["gradients"], strict=True):
        assert found.tolist() == pytest.approx(expected, rel=_TOLERANCE)
