"""What a report shows of a run that learned from rewards: curves, and answers that were drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunefork.evaluation import Curve, Sample
from tunefork.workflow.runs import RunFolder

_CURVES = {  # of `metrics.jsonl`, and what a report calls them
    "reward": "Reward",
    "passed": "Share of answers that pass",
    "length": "Tokens of an answer",
    "kl": "KL from the base, nats per token",
    "kl_answer": "KL from the base, nats per answer",
    "kl_cost": "Cost of a nat of KL",
}
_SHOWN_STEPS, _SHOWN_ANSWERS = 3, 4  # answers of a step


def reward_curves(run: RunFolder) -> tuple[Curve, ...]:
    """Return what rewards and answers were like over the steps; none where it learned otherwise."""
    lines = _lines(run.metrics)
    if not any("reward" in line for line in lines):
        return ()
    found = []
    for key, name in _CURVES.items():
        training = tuple((line["step"], line[key]) for line in lines if key in line)
        held_out = f"validation_{key}"
        measured = tuple((line["step"], line[held_out]) for line in lines if held_out in line)
        if training:
            found.append(Curve(name, training, measured))
    return tuple(found)


def shown_samples(run: RunFolder) -> tuple[Sample, ...]:
    """Return some of the answers that were drawn: at first, in the middle and at the end."""
    lines = _lines(run.samples)
    steps = sorted({line["step"] for line in lines})
    if not steps:
        return ()
    places = {round(at * (len(steps) - 1) / (_SHOWN_STEPS - 1)) for at in range(_SHOWN_STEPS)}
    return tuple(
        Sample(**{name: line[name] for name in Sample._fields})
        for at in sorted(places)
        for line in [line for line in lines if line["step"] == steps[at]][:_SHOWN_ANSWERS]
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
