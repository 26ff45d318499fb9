"""What a new run does before its first step."""

from __future__ import annotations

from typing import cast

from tunefork.core.events import Sink
from tunefork.strategies import Lora, Strategy, start_along_gradient
from tunefork.strategies.lora_start import PASSES
from tunefork.training import SampleGradient, TrainingData, TrainSettings, TrainStep, rehearse
from tunefork.workflow.strategy_specs import ChosenSpec, LoraSpec


def before_first_step(
    step_module: TrainStep,
    chosen: ChosenSpec,
    strategy: Strategy,
    data: TrainingData,
    settings: TrainSettings,
    sink: Sink,
) -> TrainSettings:
    """Find what fits into memory and where LoRA begins; return the settings that fit.

    Raises:
        RunError: A single row does not fit.
    """
    settings = rehearse(step_module, data, settings, sink)
    # What learns from rewards has no answers yet whose gradient could be asked, and through a new
    # head no gradient says anything.
    has_gradient = data.rollouts is None and step_module.head is None
    if isinstance(chosen, LoraSpec) and chosen.start == "gradient" and has_gradient:
        backward = SampleGradient(step_module, data, settings, PASSES, sink)
        start_along_gradient(cast(Lora, strategy), step_module.model, backward)
        step_module.zero_grad(set_to_none=True)
        settings = backward.settings
    return settings
