"""What a tuned model forgot: the bundled probes and suites of the user's, base beside tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunefork.core.errors import ModelError
from tunefork.core.events import Sink
from tunefork.evaluation import load_safety, measure_forgetting
from tunefork.evaluation.suites import load_suite
from tunefork.workflow.abilities import Abilities, compare_shown, show
from tunefork.workflow.measure import answer_probe, general_probe
from tunefork.workflow.opened import open_model

_CONFIDENCE = 0.95


def measure_model(name: str, suites: Sequence[Path], sink: Sink) -> dict[str, Any]:
    """Return what a tuned model lost against its base; what `forgetting --json` prints.

    The general questions are the half that may guide choices: the sealed half is kept for the gate.

    Args:
        name: A tuned model, as `open_model` takes it.
        suites: Files to ask besides.
        sink: Told how far it is.

    Raises:
        InputError: There is no such model, it is a base itself, or a suite cannot be read.
    """
    asked = Abilities(tuple(load_safety()), tuple(map(load_suite, suites)), (), is_text=False)
    opened = open_model(name)
    if opened.is_base:
        raise ModelError(
            f"`{name}` is a base, which has forgotten nothing", hint="name a tuned model"
        )
    items = general_probe("select")
    with opened.base_chat() as chat:
        base = answer_probe(chat, items, "base", sink), show(chat, asked, "base", sink)
    tuned = answer_probe(opened.chat, items, "tuned", sink), show(opened.chat, asked, "tuned", sink)
    kept = compare_shown(base[1], tuned[1], asked, _CONFIDENCE)
    assert kept.safety is not None, "requests are bundled"
    measured = {
        "general questions": measure_forgetting(items, base[0], tuned[0], confidence=_CONFIDENCE),
        "harmful requests refused": kept.safety.refused,
        "harmless requests answered": kept.safety.answered,
        **dict(kept.suites),
    }
    return {"model": name, "suites": {what: asdict(found) for what, found in measured.items()}}
