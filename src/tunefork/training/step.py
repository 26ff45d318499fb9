"""The one module that a device runs: a batch in, (loss sum, weight, metrics) out.

Everything that takes part in the backward pass is inside, the output head included, so that
wrappers for several devices see all of it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from tunefork.models import Batch, compile_kernels
from tunefork.models.routing import routed_again
from tunefork.objectives import Loss, Objective
from tunefork.training.settings import TrainSettings


class TrainStep(nn.Module):
    """A model and an objective, as one module."""

    def __init__(
        self,
        model: Any,
        objective: Objective,
        settings: TrainSettings,
        head: nn.Module | None = None,
    ) -> None:
        """Join them.

        Args:
            model: What `load_model` returned, with a strategy attached.
            objective: What is learned.
            settings: With `recompute`, only what enters each layer is kept for the backward
                pass, and the rest computed again (Chen et al. 2016, arXiv 1604.06174): a third
                more time, for a fraction of the memory. With `compile`, elementwise steps run
                as one, where there is a compiler.
            head: What the objective brings, where it trains one.
        """
        super().__init__()
        self.model = model
        self.head = head
        self.objective = objective
        if settings.recompute:
            _recompute_layers(model)
        if settings.compile:
            compile_kernels()

    def forward(self, batch: Batch) -> Loss:
        """Return the summed loss of a batch and its weight."""
        return self.objective.loss(self.model, batch)


def _recompute_layers(model: Any) -> None:
    # What `gradient_checkpointing_enable` sets, without making the embeddings' result trainable.
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.gradient_checkpointing = True
            module._gradient_checkpointing_func = partial(
                checkpoint, use_reentrant=False, context_fn=routed_again
            )
