"""What commands print: data on stdout, talk on stderr, colour and bars only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text

from tunefork.cli.lines import json_line
from tunefork.core import events
from tunefork.core.units import count_text, duration_text

talk = Console(stderr=True, highlight=False)
_ENDS = {
    "finished": "all steps done",
    "early_stop": "the held-out loss stopped falling",
    "exploded": "the loss exploded",
    "guarded": "a guard ended it",
    "paused": "it goes on later",
}


def prepare_process() -> None:
    """Keep libraries from talking over us, and off the network for anything but models."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    sys.stdout.write(json_line(value))


class TalkSink:
    """A sink for people: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            _Details(),
            console=talk,
            transient=False,
            disable=not talk.is_terminal,
        )
        self._task: Any = None
        self._what = ""
        self._validation = ""
        self._last_line = 0.0
        self._began = 0.0

    def __enter__(self) -> TalkSink:
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def __call__(self, event: events.Event) -> None:
        """Show an event."""
        if isinstance(event, events.DataChecked):
            _show_data(event)
        elif isinstance(event, events.SettingsChosen):
            _show_settings(event)
        elif isinstance(event, events.RunStarted):
            self._start(event)
        elif isinstance(event, events.StepDone):
            self._step(event)
        elif isinstance(event, events.Validated):
            best = "best, " if event.is_best else ""
            self._validation = (
                f"  held-out {event.loss:.3f}{_metrics_text(event.metrics)} "
                f"({best}step {event.step})"
            )
        elif isinstance(event, events.Warned):
            talk.print(f"[yellow]warning:[/] {escape(event.message)}", soft_wrap=True)
        elif isinstance(event, events.Noted):
            talk.print(event.message, soft_wrap=True, markup=False)
        elif isinstance(event, events.RunEnded):
            self._end(event)
        elif isinstance(event, events.Progress):
            left = self._seconds_left(event)
            details = f"{event.done}/{event.total}  {duration_text(left)} left"
            self._bar(event.what, event.done, event.total, details)

    def _start(self, event: events.RunStarted) -> None:
        share = event.trainable_parameters / event.total_parameters
        talk.print(
            f"Training {count_text(event.trainable_parameters)} of "
            f"{count_text(event.total_parameters)} parameters ({share:.1%}), {event.steps} steps"
        )

    def _step(self, event: events.StepDone) -> None:
        details = (
            f"{event.step}/{event.steps}  loss {event.loss:.3f}{_metrics_text(event.metrics)}"
            f"{self._validation}  "
            f"{event.tokens_per_second:,.0f} tokens/s  {duration_text(event.seconds_left)} left"
        )
        self._bar("training", event.step, event.steps, details)

    def _end(self, event: events.RunEnded) -> None:
        why = _ENDS[event.reason]
        best = ""
        if event.best_loss is not None:
            best = f"; best held-out loss {event.best_loss:.3f} at step {event.best_step}"
        talk.print(f"Trained for {duration_text(event.seconds)}: {why}{best}")

    def _seconds_left(self, event: events.Progress) -> float:
        if event.what != self._what:
            self._began = time.perf_counter()
        elapsed = time.perf_counter() - self._began
        return elapsed / max(event.done, 1) * (event.total - event.done)

    def _bar(self, what: str, done: int, total: int, details: str) -> None:
        if what != self._what:
            self._what = what
            self._task = self._progress.add_task(what, total=total, details=details)
            self._last_line = 0.0
        self._progress.update(self._task, completed=done, total=total, details=details)
        share = done / max(total, 1)
        if not talk.is_terminal and (share >= self._last_line + 0.25 or done == total):
            self._last_line = share
            talk.print(f"{what}: {details}", soft_wrap=True, markup=False)


def _show_settings(event: events.SettingsChosen) -> None:
    """Say what was given and what was derived, one line for each."""
    for origin in dict.fromkeys(row[2] for row in event.settings):
        shown = ", ".join(f"{key} {value}" for key, value, of in event.settings if of == origin)
        talk.print(f"{origin.capitalize()}: {shown}", soft_wrap=True, markup=False)


def _metrics_text(metrics: Mapping[str, float]) -> str:
    """Return what an objective tells besides its loss, as in ` accuracy 0.81 margin 1.2`."""
    return "".join(f" {name} {value:.3g}" for name, value in metrics.items())


def _show_data(event: events.DataChecked) -> None:
    """Say what will be trained on, and show rows token by token."""
    mixed_in = f", {event.replayed_rows:,} general rows mixed in" if event.replayed_rows else ""
    talk.print(
        f"{event.training_rows:,} rows to train on{mixed_in}, {event.validation_rows:,} held out; "
        f"{event.trained_tokens:,} of {event.tokens:,} tokens are trained"
    )
    talk.print("Token by token ([black on green]trained[/], [dim]only read[/]):")
    for row in event.preview:
        text = Text("  ")
        for token, is_trained in row:
            shown = token.replace("\n", "⏎\n  ")
            text.append(shown, style="black on green" if is_trained else "dim")
        talk.print(text)


class _Details(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Return the text beside the bar."""
        return Text(str(task.fields.get("details", "")))
