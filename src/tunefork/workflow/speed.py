"""How long training takes, by arithmetic: a step's products over what the machine multiplies."""

from __future__ import annotations

import time

from tunefork.models.memory import Shape
from tunefork.training import TrainingData, TrainSettings
from tunefork.workflow.estimate import Body, Trainable
from tunefork.workflow.strategy_specs import ChosenSpec

_SHARE = 0.65  # of the bare products' speed that a step reaches (`benchmarks/results/sft*.md`)
_TOKENS = 512  # at once, in the measurement
_LEAST_S = 0.1  # that a measurement takes


def products_per_second(shape: Shape) -> float:
    """Measure the multiply-adds per second, times two, of a base's feed-forward product, here."""
    import torch

    from tunefork.models.load import compute_dtype

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, _ = compute_dtype(device)
    left = torch.ones(_TOKENS, shape.hidden, dtype=dtype, device=device)
    right = torch.ones(shape.feed_forward, shape.hidden, dtype=dtype, device=device)
    n_done, start = -1, 0.0  # the first is not timed: it chooses a kernel
    while n_done < 0 or time.perf_counter() - start < _LEAST_S:
        total = float((left @ right.T)[0, 0])  # waits for the device
        assert total > 0
        n_done += 1
        start = time.perf_counter() if n_done == 0 else start
    each = 2 * _TOKENS * shape.hidden * shape.feed_forward
    return n_done * each / (time.perf_counter() - start)


def tokens_per_second(
    body: Body, chosen: ChosenSpec, trainable: Trainable, products: float
) -> float:
    """Return the predicted speed of training.

    Per token and base parameter two operations forward, two for the gradient of what went in, and
    two more for each parameter that is trained; a fifth more where four bits are unpacked.
    """
    per_token = 4 * body.n_parameters + 2 * trainable.parameters
    if chosen.name not in ("full", "prefix"):
        per_token += 4 * trainable.parameters  # beside the base's own products
    if chosen.name == "qlora":
        per_token = round(1.2 * per_token)
    return _SHARE * products / per_token


def training_seconds(
    data: TrainingData, settings: TrainSettings, is_full: bool, speed: float
) -> float:
    """Return how long all epochs take with their validations, at a speed in tokens per second.

    A run may end earlier, where the held-out loss stops falling.
    """
    own = settings.epochs * data.tokens_per_epoch
    if data.validation is None:
        return own / speed
    steps = settings.epochs * max(1, round(data.tokens_per_epoch / settings.batch_tokens))
    n_validations = 1 + -(-steps // settings.validate_every)
    share = 1 / 3 if is_full else 1 / 2  # of a training step, without the way back
    return (own + share * n_validations * data.validation.n_tokens) / speed
