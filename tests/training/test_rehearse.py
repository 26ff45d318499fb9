"""Before the first step, the heaviest packed row: what does not fit is found out at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.small import packed_model, random_rows
from tests.training.small_run import DATA, SETTINGS, Spoiled, messages
from tunefork.core.errors import RunError
from tunefork.core.events import Event, Warned, no_sink
from tunefork.data import Items
from tunefork.models import Batch, hash_parameters
from tunefork.objectives import Sft
from tunefork.strategies import Lora, LoraSettings
from tunefork.training import TrainStep, rehearse
from tunefork.training.rehearse import heaviest


def _step_module(objective: Spoiled | Sft) -> tuple[TrainStep, dict[str, torch.nn.Parameter]]:
    model = packed_model("llama")
    method = Lora(LoraSettings(rank=4))
    method.attach(model, 0)
    return TrainStep(model, objective, SETTINGS), method.parameters(model)


def test_the_heaviest_packed_row_is_full_and_of_the_longest_rows() -> None:
    items = Items.of(random_rows(50, longest=40))
    for micro_tokens in (40, 90, 200):
        chosen = heaviest(items, micro_tokens)
        assert items.lengths[chosen].sum() <= micro_tokens
        assert items.lengths[chosen].sum() >= 0.7 * micro_tokens
        assert items.lengths[chosen].mean() > np.median(items.lengths)
    assert heaviest(items, 1) == [int(items.lengths.argmax())]


def test_nothing_is_learned_from_it() -> None:
    step_module, parameters = _step_module(Sft())
    before = hash_parameters(parameters.items())
    assert rehearse(step_module, DATA, SETTINGS, no_sink) == SETTINGS
    assert hash_parameters(parameters.items()) == before
    assert all(parameter.grad is None for parameter in step_module.parameters())


def _machine(tokens: int) -> Spoiled:
    """Run out of memory where more than some tokens are computed at once."""

    def spoil(batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        if batch.n_tokens > tokens:
            raise MemoryError
        return loss

    return Spoiled(spoil)


def test_what_does_not_fit_is_cut_before_the_first_step() -> None:
    step_module, _ = _step_module(_machine(30))
    wide = SETTINGS.model_copy(update={"micro_tokens": 100})
    seen: list[Event] = []
    assert rehearse(step_module, DATA, wide, seen.append).micro_tokens <= 50
    assert any("memory ran out" in message for message in messages(seen, Warned))


def test_a_row_that_never_fits_is_named() -> None:
    step_module, _ = _step_module(_machine(5))
    with pytest.raises(RunError, match="the memory does not hold"):
        rehearse(step_module, DATA, SETTINGS, no_sink)
