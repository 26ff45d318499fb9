"""How much memory training takes, by arithmetic over a base's configuration. No torch needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WEIGHTS_KEPT = 192  # attention weights kept per head and token: the length of a usual row


def activation_bytes_per_token(config: Mapping[str, Any], bytes_per_number: int = 2) -> int:
    """Return what one token keeps for the backward pass, over all layers.

    Per layer: two residual states, query, keys and values, attention weights, the mixed values,
    and the two inputs of the gated feed-forward part. Norms and activations are computed again.

    Args:
        config: A base's `config.json`.
        bytes_per_number: 2 for bf16, 4 for float32.
    """

    def size(*names: str, default: int) -> int:
        # A value that makes no sense is refused when the base is loaded.
        found = (config.get(name) for name in names)
        return next((n for n in found if isinstance(n, int) and n > 0), default)

    hidden = size("hidden_size", "n_embd", default=2048)
    layers = size("num_hidden_layers", "n_layer", default=24)
    heads = size("num_attention_heads", "n_head", default=16)
    head_size = size("head_dim", default=hidden // heads)
    query = heads * head_size
    key = size("num_key_value_heads", default=heads) * head_size
    mlp = size("intermediate_size", "n_inner", default=4 * hidden)
    numbers = 2 * hidden + 2 * query + 2 * key + heads * _WEIGHTS_KEPT + 2 * mlp
    return layers * numbers * bytes_per_number
