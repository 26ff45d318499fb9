"""What is noted beside a model that tells labels or rewards, and the model opened as that again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import ModelError
from tunefork.core.events import Progress, Sink
from tunefork.data import Items, Labelling
from tunefork.evaluation.thresholds import best_thresholds
from tunefork.inference import (
    ChatModel,
    Classifier,
    HeadScorer,
    NameScorer,
    RewardModel,
)
from tunefork.models import Head
from tunefork.objectives import LABEL, without_answers
from tunefork.strategies import load_head
from tunefork.workflow.objective_specs import ClassifySpec, RewardSpec
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Spec


def head_card(
    spec: Spec, model: Any, head: Head | None, prepared: Prepared, sink: Sink
) -> dict[str, Any] | None:
    """Return what has to be known of a model to use it as what it was trained for.

    None where it answers in words.
    """
    objective = spec.objective
    if isinstance(objective, RewardSpec):
        return {"objective": objective.name}
    if not isinstance(objective, ClassifySpec):
        return None
    assert prepared.labelling is not None, "the rows have labels"
    chat = ChatModel(model, prepared.renderer, prepared.base.max_length)
    classifier = _new_classifier(chat, head, prepared.labelling)
    thresholds = _thresholds(objective.out_of_scope, classifier, prepared, sink)
    return {
        "objective": objective.name,
        "form": objective.form,
        "several": classifier.is_several,
        "labels": list(classifier.labels),
        "thresholds": list(thresholds),
    }


def with_head(chat: ChatModel, folder: Path, card: Mapping[str, Any]) -> ChatModel:
    """Return a model as what its card says that it is for.

    Raises:
        ModelError: The card or the head is damaged.
    """
    found = card.get("head")
    if found is None:
        return chat
    device = chat.model.device
    try:
        if found["objective"] == "reward":
            return RewardModel(**_own(chat), head=load_head(folder, 1, device))
        labels = tuple(map(str, found["labels"]))
        has_head, is_several = found.get("form") != "generate", bool(found.get("several"))
        least = found.get("thresholds") or [found["threshold"]] * len(labels)
        thresholds = tuple(map(float, least))
        if len(thresholds) != len(labels):
            raise ValueError("a threshold for each label")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            "damaged: what it says of the head cannot be read",
            where=folder / "tunefork.json",
            hint="bring the file back as it was saved, or tune again",
        ) from error
    head = load_head(folder, len(labels), device) if has_head else None
    classifier = _new_classifier(chat, head, Labelling(labels, (), (), is_several))
    return replace(classifier, thresholds=thresholds)


def held_out_shares(
    classifier: Classifier, prepared: Prepared, sink: Sink
) -> tuple[NDArray[np.float64], NDArray[np.float32]] | None:
    """Return the probability of each label for each held-out text, and what is right.

    (texts, labels), and the column `LABEL`; None where no texts are held out.
    """
    if prepared.data.validation is None:
        return None
    items = without_answers(Items.of(prepared.data.validation))

    def tell(done: int) -> None:
        sink(Progress("held-out texts", done, len(items)))

    shares = classifier.probabilities(items.rows, tell)
    return shares.double().numpy(), items.columns[LABEL]


def _own(chat: ChatModel) -> dict[str, Any]:
    return {field.name: getattr(chat, field.name) for field in fields(ChatModel)}


def _new_classifier(chat: ChatModel, head: Head | None, labelling: Labelling) -> Classifier:
    """Return a classifier without thresholds: by its head, or by the names where it has none."""
    scorer = (
        NameScorer.of(chat.renderer, labelling.names)
        if head is None
        else HeadScorer(head, labelling.is_several)
    )
    return Classifier(
        **_own(chat),
        scorer=scorer,
        labels=labelling.names,
        thresholds=(0.0,) * len(labelling.names),
        is_several=labelling.is_several,
    )


def _thresholds(
    share: float, classifier: Classifier, prepared: Prepared, sink: Sink
) -> tuple[float, ...]:
    """Return the least probability at which each label is given, from the held-out texts.

    Of several labels those of the best F1; of one the same for all, so that a share of the texts
    stays without.
    """
    n_labels = len(classifier.labels)
    usual = (0.5 if classifier.is_several else 0.0,) * n_labels
    if not (share or classifier.is_several):
        return usual
    found = held_out_shares(classifier, prepared, sink)
    if found is None:
        return usual
    shares, right = found
    if classifier.is_several:
        return tuple(best_thresholds(shares, right > 0).tolist())
    return (float(np.quantile(shares.max(axis=1), share)),) * n_labels
