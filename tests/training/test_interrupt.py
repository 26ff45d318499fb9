"""Ctrl-C and SIGTERM: the step is finished and saved, and the run goes on to the same bits."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from tests.training.small_run import messages, run
from tunefork.core.errors import Stopped, Terminated
from tunefork.core.events import Event, Noted, Sink, StepDone
from tunefork.training import CheckpointStore
from tunefork.training import interrupt as interrupt_module


def _signal_at(step: int, *numbers: int, seen: list[Event] | None = None) -> Sink:
    def sink(event: Event) -> None:
        if seen is not None:
            seen.append(event)
        if isinstance(event, StepDone) and event.step == step:
            for number in numbers:
                signal.raise_signal(number)

    return sink


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(signal.SIGINT, Stopped, 130), (signal.SIGTERM, Terminated, 143)],
)
def test_a_signal_saves_and_resuming_gives_the_same_bits(
    number: int, kind: type[Stopped], code: int, tmp_path: Path
) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    expected, whole = run(tmp_path / "whole")
    for step in (1, 5, whole.steps):
        seen: list[Event] = []
        with pytest.raises(kind) as caught:
            run(tmp_path / f"cut{step}", sink=_signal_at(step, number, seen=seen))
        assert caught.value.message == f"stopped at step {step} of {whole.steps} and saved"
        assert caught.value.exit_code == code
        assert "stopping after this step" in messages(seen, Noted)[0]
        newest = CheckpointStore(tmp_path / f"cut{step}").load_newest()
        assert newest is not None
        assert newest[0].step == step
        found, result = run(tmp_path / f"cut{step}")
        assert (found, result.resumed_from) == (expected, step)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt_module, "_ECHO_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, sink=_signal_at(2, signal.SIGINT, signal.SIGINT))
    assert CheckpointStore(tmp_path).load_newest() is None


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_echo_of_a_signal_is_no_second_one(second: int, tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="stopped at step 2"):
        run(tmp_path, sink=_signal_at(2, signal.SIGINT, second))


def test_in_another_thread_signals_are_left_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run, args=(tmp_path,), kwargs={"sink": sink})
    thread.start()
    thread.join()
    assert seen
    assert set(seen) == {before}


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, result = run(tmp_path, sink=_signal_at(2, signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.reason == "finished"
