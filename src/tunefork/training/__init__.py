"""One visible loop for every strategy, objective and device."""

from tunefork.training.checkpoint import CheckpointStore, TrainState
from tunefork.training.loop import TrainResult, train, validate
from tunefork.training.packing import Plan, TrainingData, Watch
from tunefork.training.rehearse import rehearse
from tunefork.training.room import memory_errors
from tunefork.training.sample import SampleGradient
from tunefork.training.settings import TrainSettings
from tunefork.training.step import TrainStep

__all__ = [
    "CheckpointStore",
    "Plan",
    "SampleGradient",
    "TrainResult",
    "TrainSettings",
    "TrainState",
    "TrainStep",
    "TrainingData",
    "Watch",
    "memory_errors",
    "rehearse",
    "train",
    "validate",
]
