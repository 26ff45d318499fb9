"""What is learned: each objective returns a loss sum, its weight, and metrics."""

from tunefork.objectives.protocol import Loss, Objective
from tunefork.objectives.sft import Sft

__all__ = ["Loss", "Objective", "Sft"]
