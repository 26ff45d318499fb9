"""Parts of a Llama-like layer with hand-written backward passes, put in place of the model's own.

Each computes what the part it replaces computes, in fewer passes over memory and keeping less for
the backward pass. Names and parameters stay, so that adapters and saved weights fit both ways.
"""

from __future__ import annotations

from typing import Any

from tunefork.models.fused.attention import RotaryAttention
from tunefork.models.fused.layer import DecoderLayer
from tunefork.models.fused.mlp import SwigluMlp
from tunefork.models.fused.norm import RmsNorm

# Families of transformers whose layers are known to be what the fused parts compute.
_FAMILIES = ("Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3")
_Part = type[RmsNorm] | type[SwigluMlp] | type[RotaryAttention] | type[DecoderLayer]
_PARTS: dict[str, _Part] = {
    **{f"{family}RMSNorm": RmsNorm for family in _FAMILIES},
    **{f"{family}MLP": SwigluMlp for family in _FAMILIES},
    **{f"{family}Attention": RotaryAttention for family in _FAMILIES},
    **{f"{family}DecoderLayer": DecoderLayer for family in _FAMILIES},
}


def fuse(model: Any) -> None:
    """Replace the parts of a freshly loaded model that have a fused counterpart.

    Notes on the model whether all its layers, and what stands around them, are such.
    """
    # Innermost first: what a part is made of is replaced before the part.
    for name, module in reversed(list(model.named_modules())):
        part = _PARTS.get(type(module).__name__)
        if part is not None and part.replaces(module):
            model.set_submodule(name, part(module))
    body = model.base_model
    is_known = type(body).__name__ in {f"{family}Model" for family in _FAMILIES}
    model.has_plain_body = is_known and all(
        type(each) is DecoderLayer and type(each.self_attn) is RotaryAttention
        for each in body.layers
    )


__all__ = ["DecoderLayer", "RmsNorm", "RotaryAttention", "SwigluMlp", "fuse"]
