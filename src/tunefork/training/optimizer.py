"""AdamW on float32 masters, whatever number format the model computes in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tunefork.training.settings import TrainSettings


class MasterAdamW:
    """AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101) over named parameters.

    Gradients of all packed rows of a step add up in float32. Parameters in a shorter format get
    a float32 master that the optimizer moves, and are the master's rounding after each step.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        settings: TrainSettings,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        """Take charge of parameters.

        Args:
            parameters: What moves, by name.
            settings: See `TrainSettings`.
            rate_factors: By name, how many times the learning rate one moves at; 1 if not named.
        """
        self.parameters = parameters
        self.settings = settings
        self.masters = {
            name: parameter
            if parameter.dtype == torch.float32
            else nn.Parameter(parameter.detach().float())
            for name, parameter in parameters.items()
        }
        self.adamw = torch.optim.AdamW(
            _groups(self.masters, rate_factors or {}),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    def collect(self) -> None:
        """Add the gradients of one packed row to the masters' gradients."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is parameter or parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self, learning_rate: float) -> float:
        """Clip, move the masters, round them into the model, and return the gradient's norm.

        Where the norm is not finite, nothing moves and the gradients are dropped.
        """
        norm = nn.utils.clip_grad_norm_(self.masters.values(), self.settings.clip)
        if not math.isfinite(float(norm)):
            return self.drop()
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate * group["factor"]
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._round()
        return float(norm)

    def drop(self) -> float:
        """Forget the gradients collected so far; nothing moves, so their norm is no number."""
        for parameter in (*self.parameters.values(), *self.masters.values()):
            parameter.grad = None
        return math.nan

    def state(self) -> dict[str, torch.Tensor]:
        """Return masters and moments as named tensors: all that a checkpoint needs."""
        found = {}
        for name, master in self.masters.items():
            found[f"master.{name}"] = master.detach()
            for key, value in self.adamw.state.get(master, {}).items():
                found[f"{key}.{name}"] = value
        return found

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take back what `state` returned."""
        self.load_masters(state)
        for name, master in self.masters.items():
            self.adamw.state[master] = {
                key: state[f"{key}.{name}"].to(master.device, copy=True)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"{key}.{name}" in state
            }

    def load_masters(self, state: dict[str, torch.Tensor]) -> None:
        """Take back the weights only."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(state[f"master.{name}"])
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                parameter.copy_(self.masters[name])


def _groups(
    masters: dict[str, nn.Parameter], rate_factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Sort what moves by its rate and by whether it decays, in the order of their first."""
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, master in masters.items():
        factor, decays = rate_factors.get(name, 1.0), master.ndim >= 2
        group = groups.setdefault((factor, decays), {"params": [], "factor": factor})
        if not decays:  # norm gains, biases and other vectors are not pulled to zero
            group["weight_decay"] = 0.0
        group["params"].append(master)
    return list(groups.values())
