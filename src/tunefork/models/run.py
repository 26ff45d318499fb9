"""Run a model over one packed row: logits, hidden states, or the loss without logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunefork.models.batch import Batch
from tunefork.models.fused.head import weighted_cross_entropy
from tunefork.models.layout import Layout
from tunefork.models.roots import behind_prefixes
from tunefork.models.routing import routed

_LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")


def run_on(
    model: Any, ids: torch.Tensor, layout: Layout, keep: torch.Tensor | None = None
) -> torch.Tensor:
    """Run a model over one packed row and return logits.

    Args:
        model: What `load_model` returned.
        ids: (tokens,).
        layout: Which token sees which.
        keep: Places in the row to compute logits at; all where None.

    Returns:
        (places, vocabulary), in the model's number format.
    """
    layout = behind_prefixes(model, layout)
    with routed(layout, keep):
        if _runs_bare(model):
            hidden = _bare(model, ids, layout)
            kept = hidden if keep is None else hidden[keep]
            found: torch.Tensor = model.get_output_embeddings()(kept.unsqueeze(0))[0]
            return found
        output = model(
            input_ids=ids.unsqueeze(0),
            position_ids=layout.positions,
            use_cache=False,
            logits_to_keep=0 if keep is None else keep,
            layout=layout,
        )
    logits: torch.Tensor = output.logits[0]
    return logits


def hidden_on(model: Any, ids: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return what the output head is given at each place: (tokens, hidden size)."""
    layout = behind_prefixes(model, layout)
    with routed(layout):
        if _runs_bare(model):
            return _bare(model, ids, layout)
        output = model.base_model(
            input_ids=ids.unsqueeze(0),
            position_ids=layout.positions,
            use_cache=False,
            layout=layout,
        )
    hidden: torch.Tensor = output.last_hidden_state[0]
    return hidden


def _runs_bare(model: Any) -> bool:
    return not torch.is_grad_enabled() and bool(model.has_plain_body)


def _bare(model: Any, ids: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Return `hidden_on` of a model with a plain body.

    What transformers does around the layers takes as long as one of them, in a step of few rows.
    """
    body = model.base_model
    states: torch.Tensor = body.embed_tokens(ids.unsqueeze(0))
    angles = body.rotary_emb(states, position_ids=layout.positions)
    for layer in body.layers:
        states = layer(states, position_embeddings=angles, layout=layout)
    found: torch.Tensor = body.norm(states)[0]
    return found


def loss_on(model: Any, batch: Batch) -> torch.Tensor:
    """Return the sum over a batch's predictions of weight * cross-entropy, in float32."""
    head = model.get_output_embeddings()
    if model.has_plain_head and type(head) is nn.Linear:
        hidden = hidden_on(model, batch.ids, batch.layout).index_select(0, batch.keep)
        return weighted_cross_entropy(hidden, head.weight, batch.targets, batch.weights)
    return (losses_on(model, batch) * batch.weights).sum()


def losses_on(model: Any, batch: Batch) -> torch.Tensor:
    """Return the cross-entropy of each prediction of a batch, in float32: (predictions,)."""
    logits = run_on(model, batch.ids, batch.layout, batch.keep)
    return functional.cross_entropy(logits.float(), batch.targets, reduction="none")


@torch.no_grad()
def has_plain_head(model: Any, ids: torch.Tensor, layout: Layout, logits: torch.Tensor) -> bool:
    """Say whether a model's logits, here those of `ids`, are one product with the head's weight.

    Some models scale them, cap them or add a bias.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return False
    # Too small in a random model to be seen in its logits.
    if any(getattr(model.config, name, None) for name in _LOGIT_CHANGES):
        return False
    bare = functional.linear(hidden_on(model, ids, layout), head.weight)
    return torch.allclose(bare, logits, rtol=1e-3, atol=1e-5)
