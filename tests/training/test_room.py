"""Out of memory: the step is cut smaller, and done from its beginning."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.small_run import DATA, ROWS, SETTINGS, VALIDATION, Spoiled, messages, run
from tunefork.core.errors import RunError
from tunefork.core.events import Event, StepDone, Validated, Warned
from tunefork.models import Batch
from tunefork.models.out_of_memory import is_out_of_memory
from tunefork.training import CheckpointStore, TrainingData, memory_errors
from tunefork.training.room import NoRoom, room_for

_ERRORS: list[Exception] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
    ),
]


def _small_machine(tokens: int, error: Exception, *, backward: bool = False) -> Spoiled:
    """Run out of memory where more than some tokens are computed at once."""

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
            raise error

    def spoil(batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        if batch.n_tokens <= tokens:
            return loss
        if backward and torch.is_grad_enabled():
            found: torch.Tensor = Backward.apply(loss)  # type: ignore[no-untyped-call]
            return found
        raise error

    return Spoiled(spoil)


_WIDE = SETTINGS.model_copy(update={"micro_tokens": 60})


def _losses(seen: list[Event]) -> list[float]:
    return [event.loss for event in seen if isinstance(event, StepDone | Validated)]


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_a_step_that_does_not_fit_is_done_in_smaller_pieces(
    error: Exception, backward: bool, tmp_path: Path
) -> None:
    narrow = SETTINGS.model_copy(update={"micro_tokens": 30})
    expected, _ = run(tmp_path / "narrow", narrow)
    seen: list[Event] = []
    machine = _small_machine(30, error, backward=backward)
    found, result = run(tmp_path / "halved", _WIDE, objective=machine, sink=seen.append)
    assert found == expected  # the same seed, rows and weight; to the bit
    assert result.state.micro_tokens == 30
    (warning,) = messages(seen, Warned)
    assert "going on with 30 tokens computed at once instead of 60" in warning


def test_the_result_is_that_of_the_whole_step(tmp_path: Path) -> None:
    whole: list[Event] = []
    halved: list[Event] = []
    run(tmp_path / "whole", _WIDE, objective=_undropped(100), sink=whole.append)
    run(tmp_path / "halved", _WIDE, objective=_undropped(30), sink=halved.append)
    assert len(messages(halved, Warned)) == 1
    # Dropout draws other numbers for other shapes: the same step up to that.
    np.testing.assert_allclose(_losses(whole), _losses(halved), rtol=0, atol=0.05)


def _undropped(tokens: int) -> Spoiled:
    return _small_machine(tokens, MemoryError())


def test_a_resumed_run_goes_on_with_the_smaller_size(tmp_path: Path) -> None:
    machine = _small_machine(30, MemoryError())
    expected, _ = run(tmp_path / "whole", _WIDE, objective=machine)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(tmp_path / "cut", _WIDE, objective=machine, sink=stop)
    newest = CheckpointStore(tmp_path / "cut").load_newest()
    assert newest is not None
    assert newest[0].micro_tokens == 30
    seen: list[Event] = []
    found, _ = run(tmp_path / "cut", _WIDE, objective=machine, sink=seen.append)
    assert found == expected
    assert messages(seen, Warned) == []


def test_validation_that_does_not_fit_is_cut_too(tmp_path: Path) -> None:
    def spoil(batch: Batch, loss: torch.Tensor) -> torch.Tensor:
        if batch.n_tokens > 30 and not torch.is_grad_enabled():
            raise MemoryError
        return loss

    seen: list[Event] = []
    narrow, halved = list[Event](), list[Event]()
    run(tmp_path / "narrow", SETTINGS, sink=narrow.append)
    run(tmp_path / "wide", _WIDE, objective=Spoiled(spoil), sink=halved.append)
    seen = halved
    assert len(messages(seen, Warned)) == 1
    assert _losses(narrow) == _losses(halved)


def test_a_single_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    longest = int(np.argmax(ROWS.lengths))
    length = int(ROWS.lengths[longest])
    data = TrainingData(ROWS, name_row=lambda row: f"train.jsonl:{row + 1}")
    machine = _small_machine(length - 1, MemoryError())
    with pytest.raises(RunError) as caught:
        run(tmp_path, _WIDE, data=data, objective=machine)
    names = [f"train.jsonl:{row + 1}" for row in np.flatnonzero(ROWS.lengths == length)]
    assert any(
        f"does not hold {name}, which alone is {length}" in str(caught.value) for name in names
    )
    assert f"`training.max_length` below {length}" in str(caught.value.hint)


def test_a_single_held_out_row_that_does_not_fit_is_named(tmp_path: Path) -> None:
    longest = int(VALIDATION.lengths.max())
    machine = _small_machine(longest - 1, MemoryError())
    with pytest.raises(RunError, match=r"does not hold held-out row \d"):
        run(tmp_path, data=DATA, objective=machine)


def test_what_the_attempt_held_is_let_go() -> None:
    class Activation:
        pass

    held: list[weakref.ref[Activation]] = []

    def forward() -> None:
        activation = Activation()
        held.append(weakref.ref(activation))
        raise MemoryError

    gc.disable()  # nothing but the frames' own end may free it
    try:
        with pytest.raises(NoRoom) as caught, room_for([1, 2]):
            forward()
        assert caught.value.chosen == (1, 2)
        assert held[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "ask",
    [lambda: torch.empty(1 << 50, dtype=torch.uint8), lambda: np.empty(1 << 50, np.uint8)],
    ids=["torch", "numpy"],
)
def test_what_the_allocators_really_say_is_known(ask: Any) -> None:
    with pytest.raises(NoRoom), room_for([0, 1]):
        ask()


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"), room_for([0]):
        raise RuntimeError("shapes do not match")
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_where_nothing_can_be_cut_it_says_so(error: Exception) -> None:
    with pytest.raises(RunError, match="not enough memory for training `tiny`"):  # noqa: SIM117
        with memory_errors("training `tiny`"):
            raise error
