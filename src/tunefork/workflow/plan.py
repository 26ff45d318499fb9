"""`plan`: what each strategy would take of memory and time, and which to choose. Loads no weights.

The rules and their sources are in `docs/plan.md`; `--probe` replaces prediction by measurement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from tunefork.core.errors import UsageError
from tunefork.core.events import Noted, Progress, Sink
from tunefork.core.units import bytes_text
from tunefork.models import Base
from tunefork.training import TrainingData
from tunefork.workflow.derive import PREFERRED, Derived, derive, outgrows
from tunefork.workflow.estimate import Body
from tunefork.workflow.machine import Machine
from tunefork.workflow.objective_specs import FromRewards
from tunefork.workflow.prepare import prepare_again
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.speed import products_per_second, tokens_per_second, training_seconds
from tunefork.workflow.strategy_specs import (
    BottleneckSpec,
    ChosenSpec,
    FullSpec,
    LoraSpec,
    PrefixSpec,
)
from tunefork.workflow.trial import Trial, measure

CHOICES: tuple[ChosenSpec, ...] = (
    LoraSpec(name="lora"),
    LoraSpec(name="qlora"),
    PrefixSpec(name="prefix"),
    BottleneckSpec(name="bottleneck"),
    FullSpec(name="full"),
)


@dataclass(frozen=True)
class Candidate:
    """A strategy with its settings, and what it takes."""

    derived: Derived
    seconds: float | None  # None where the machine is not here to be timed
    peak_bytes: int
    fits: bool
    measured: bool = False
    note: str = ""

    @property
    def strategy(self) -> str:
        """Its name."""
        return self.derived.chosen.name

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        derived, settings = self.derived, self.derived.settings
        return {
            "strategy": self.strategy,
            "trainable_parameters": derived.trainable.parameters,
            "adapter_bytes": derived.trainable.saved_bytes,
            "peak_bytes": self.peak_bytes,
            "predicted_peak_bytes": derived.memory.total,
            "memory": asdict(derived.memory),
            "seconds": self.seconds,
            "fits": self.fits,
            "measured": self.measured,
            "note": self.note,
            "micro_tokens": settings.micro_tokens,
            "recompute": settings.recompute,
            "settings": [setting._asdict() for setting in derived.origins],
        }


def plan(project: Project, machine: Machine, *, probe: bool, sink: Sink) -> dict[str, Any]:
    """Return what `plan --json` prints.

    Args:
        project: What is to be trained.
        machine: What on.
        probe: Run a few real steps of each strategy that is predicted to fit.
        sink: Told how far it is.

    Raises:
        InputError: Spec, data or base cannot be used.
    """
    if probe and isinstance(project.spec.objective, FromRewards):
        raise UsageError(
            "`--probe` runs steps on given rows, and this objective draws its own",
            hint="leave it out; the prediction does not count the time that drawing takes",
        )
    prepared = prepare_again(project, sink, None)
    body = Body(prepared.base)
    products = products_per_second(body.shape) if machine.is_this else None
    found = [
        _predict(_with(project.spec, chosen), prepared.data, body, machine, products)
        for chosen in CHOICES
    ]
    if probe:
        for number, candidate in enumerate(found):
            sink(Progress("trying", number, len(found)))
            if candidate.fits:
                found[number] = _probe(candidate, prepared.base, prepared.data, machine)
        sink(Progress("trying", len(found), len(found)))
    elif machine.is_this:
        sink(Noted("Times are predicted from one product's speed; `--probe` measures them."))
    recommended, reason = recommend(found, machine)
    return {
        "machine": machine.as_dict(),
        "base": prepared.base.name,
        "rows": len(prepared.data.rows),
        "replayed_rows": prepared.data.n_replayed,
        "tokens_per_epoch": prepared.data.tokens_per_epoch,
        "longest_row": int(prepared.data.together().lengths.max(initial=0)),
        "candidates": [candidate.as_dict() for candidate in found],
        "recommended": recommended,
        "reason": reason,
    }


def recommend(candidates: list[Candidate], machine: Machine) -> tuple[str | None, str]:
    """Return the strategy to choose, and why, in two sentences."""
    by_name = {candidate.strategy: candidate for candidate in candidates}
    lora, qlora = (by_name[chosen.name] for chosen in PREFERRED)
    full = by_name["full"]
    here = f"the {bytes_text(machine.usable_bytes)} that may be used"
    size, whole = (each.derived.trainable.parameters for each in (lora, full))
    if full.fits and outgrows(lora.derived, whole):
        return "full", (
            f"LoRA of the rank that so much data ask for would hold {size / whole:.0%} of the "
            "base's parameters, and save hardly any room. Full fine-tuning learns more from them, "
            f"and fits, with {bytes_text(full.peak_bytes)} of {here}."
        )
    if lora.fits:
        more = (
            f"full fine-tuning would take {_ratio(full, lora)} the memory"
            if full.fits
            else f"full fine-tuning, at {bytes_text(full.peak_bytes)}, does not fit"
        )
        return "lora", (
            f"LoRA fits, with {bytes_text(lora.peak_bytes)} of {here}. On data of this kind it "
            f"learns what full fine-tuning learns, with the base unchanged; {more}."
        )
    needed = f"LoRA needs {bytes_text(lora.peak_bytes)}, more than {here}."
    if qlora.fits:
        return "qlora", (
            f"{needed} QLoRA keeps the base in four bits and fits with "
            f"{bytes_text(qlora.peak_bytes)}, at nearly the same loss."
        )
    others = " or ".join(f"`{each.strategy}`" for each in candidates if each.fits)
    less = f"ask for {others} by name, " if others else ""
    return None, (
        f"{needed} QLoRA does not fit either, with {bytes_text(qlora.peak_bytes)}: {less}choose a "
        "smaller base, lower `training.max_length`, or use a larger machine."
    )


def _ratio(full: Candidate, lora: Candidate) -> str:
    return f"{full.peak_bytes / lora.peak_bytes:.1f} times"


def _with(spec: Spec, chosen: ChosenSpec) -> Spec:
    """Return the spec with a strategy; its own settings where it is the one that the spec names."""
    if spec.strategy.name == chosen.name:
        return spec
    return spec.model_copy(update={"strategy": chosen})


def _predict(
    spec: Spec, data: TrainingData, body: Body, machine: Machine, products: float | None
) -> Candidate:
    """Return what arithmetic says; `products` is the machine's speed, where it is here."""
    derived = derive(spec, body.base, data, machine=machine, body=body)
    seconds = None
    if products is not None:
        speed = tokens_per_second(body, derived.chosen, derived.trainable, products)
        seconds = _seconds(derived, data, speed)
    peak_bytes = derived.memory.total
    return Candidate(derived, seconds, peak_bytes, peak_bytes <= machine.usable_bytes)


def _seconds(derived: Derived, data: TrainingData, speed: float) -> float:
    return training_seconds(data, derived.settings, derived.chosen.name == "full", speed)


def _probe(candidate: Candidate, base: Base, data: TrainingData, machine: Machine) -> Candidate:
    derived = candidate.derived
    trial: Trial = measure(base, derived.chosen, derived.settings, data)
    if trial.refused:
        return replace(candidate, fits=False, measured=True, note=trial.refused)
    return replace(
        candidate,
        seconds=_seconds(derived, data, trial.tokens_per_second),
        peak_bytes=trial.peak_bytes,
        fits=trial.peak_bytes <= machine.usable_bytes,
        measured=True,
    )
