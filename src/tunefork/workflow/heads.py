"""What is noted of a model's head beside it, and the model opened with it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from tunefork.core.errors import ModelError
from tunefork.data import Items
from tunefork.inference import ChatModel, Classifier, RewardModel, head_outputs
from tunefork.models import Head
from tunefork.strategies import load_head
from tunefork.workflow.objective_specs import ClassifySpec
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Spec


def head_card(
    spec: Spec, model: Any, head: Head | None, prepared: Prepared
) -> dict[str, Any] | None:
    """Return what has to be known of a trained head to use it; None where there is none."""
    if head is None:
        return None
    if not isinstance(spec.objective, ClassifySpec):
        return {"objective": spec.objective.name}
    assert prepared.labelling is not None, "the rows have labels"
    return {
        "objective": spec.objective.name,
        "labels": list(prepared.labelling.names),
        "threshold": _threshold(spec.objective.out_of_scope, model, head, prepared),
    }


def with_head(chat: ChatModel, folder: Path, card: Mapping[str, Any]) -> ChatModel:
    """Return a model as what its card says that its head is for.

    Raises:
        ModelError: The card or the head is damaged.
    """
    found = card.get("head")
    if found is None:
        return chat
    own = {field.name: getattr(chat, field.name) for field in fields(ChatModel)}
    device = chat.model.device
    try:
        if found["objective"] == "reward":
            return RewardModel(**own, head=load_head(folder, 1, device))
        labels, threshold = tuple(map(str, found["labels"])), float(found["threshold"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            "damaged: what it says of the head cannot be read",
            where=folder / "tunefork.json",
            hint="bring the file back as it was saved, or tune again",
        ) from error
    head = load_head(folder, len(labels), device)
    return Classifier(**own, head=head, labels=labels, threshold=threshold)


def _threshold(share: float, model: Any, head: Head, prepared: Prepared) -> float:
    """Return the probability that a share of the held-out texts' likeliest labels stays below."""
    held_out = prepared.data.validation
    if not share or held_out is None:
        return 0.0
    shares = head_outputs(model, head, Items.of(held_out).rows).softmax(dim=1).amax(dim=1)
    return float(torch.quantile(shares, share))
