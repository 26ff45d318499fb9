"""A base without its weights: every layer with its sizes, for counting what would be trained."""

from __future__ import annotations

from typing import Any

import torch

from tunefork.models.base import Base
from tunefork.models.load import REFUSALS, unusable


def skeleton(base: Base) -> Any:
    """Return a base's model on the meta device, made from its `config.json` alone.

    Raises:
        ModelError: The config describes no decoder.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base.folder)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    except REFUSALS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise unusable(base, reason) from error
    return model.requires_grad_(False)
