"""How much memory training takes, by arithmetic over a base's configuration. No torch needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHORT_ROW = 256  # tokens up to which a row's attention weights are kept (see `grouped`)
_CHUNK_BYTES = 32 << 20  # float32 logits that exist at once (see `fused.head`)
_USUAL_ROW = 192  # tokens, where rows are not known


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder that decide what it keeps for the backward pass."""

    hidden: int
    layers: int
    heads: int
    query: int  # heads * head size
    key: int  # key heads * head size
    feed_forward: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """Return the sizes that a base's `config.json` gives."""

        def size(*names: str, default: int) -> int:
            # A value that makes no sense is refused when the base is loaded.
            found = (config.get(name) for name in names)
            return next((n for n in found if isinstance(n, int) and n > 0), default)

        hidden = size("hidden_size", "n_embd", default=2048)
        heads = size("num_attention_heads", "n_head", default=16)
        head_size = size("head_dim", default=hidden // heads)
        return cls(
            hidden=hidden,
            layers=size("num_hidden_layers", "n_layer", default=24),
            heads=heads,
            query=heads * head_size,
            key=size("num_key_value_heads", default=heads) * head_size,
            feed_forward=size("intermediate_size", "n_inner", default=4 * hidden),
            vocabulary=size("vocab_size", default=32_000),
        )


def activation_bytes_per_token(config: Mapping[str, Any], bytes_per_number: int = 2) -> int:
    """Return what one token of a usual row keeps for the backward pass, over all layers.

    Args:
        config: A base's `config.json`.
        bytes_per_number: 2 for bf16, 4 for float32.
    """
    shape = Shape.of(config)
    return activation_bytes(shape, [_USUAL_ROW], bytes_per_number) // _USUAL_ROW


def activation_bytes(
    shape: Shape,
    lengths: Sequence[int],
    bytes_per_number: int,
    *,
    n_learned: int = 0,
    keeps_inputs: bool = True,
    n_beside: int = 0,
) -> int:
    """Return what a packed row keeps for the backward pass, over all layers.

    Per layer: two residual states, query, keys and values, the mixed values, the two inputs of
    the gated feed-forward part, and attention weights where rows are short. Norms and activations
    are computed again.

    Args:
        shape: The base's.
        lengths: Tokens of each document in the row.
        bytes_per_number: 2 for bf16, 4 for float32.
        n_learned: Learned keys before each document.
        keeps_inputs: Whether linear layers keep what they were given, as those do that are trained
            or have a change beside them.
        n_beside: Numbers that adapters in a layer keep of each token.
    """
    own = n_beside + 2 * shape.hidden + shape.query + 2 * shape.feed_forward
    own += shape.query if keeps_inputs else 0
    per_key = 2 * shape.key
    numbers = 0
    for length in lengths:
        n_keys = length + n_learned
        numbers += length * own + n_keys * per_key
        numbers += shape.heads * length * n_keys if length <= SHORT_ROW else 0
    return shape.layers * numbers * bytes_per_number


def layer_input_bytes(shape: Shape, n_tokens: int, bytes_per_number: int) -> int:
    """Return what is kept where each layer is computed again from what enters it."""
    return shape.layers * n_tokens * shape.hidden * bytes_per_number


def passing_bytes(shape: Shape, n_tokens: int, bytes_per_number: int) -> int:
    """Return what one layer holds for a moment in the backward pass.

    The gradients of the gated product and of its two inputs, and the product itself again.
    """
    return 4 * shape.feed_forward * n_tokens * bytes_per_number


def head_bytes(shape: Shape, n_predictions: int, bytes_per_number: int, *, trains: bool) -> int:
    """Return what output head and cross-entropy hold (see `fused.head`).

    One chunk of logits in float32 and two in the number format; the states that are predicted
    from, and their gradient twice; where the head is trained, its gradient twice.
    """
    least = max(_CHUNK_BYTES, 4 * shape.vocabulary)
    chunk = min(n_predictions * shape.vocabulary, least // 4) * (4 + 2 * bytes_per_number)
    states = 3 * n_predictions * shape.hidden
    gradients = 2 * shape.vocabulary * shape.hidden if trains else 0
    return chunk + (states + gradients) * bytes_per_number
