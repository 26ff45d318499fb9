"""How a spec chooses an objective, and its settings.

One class for each; `build` makes what the loop trains with, and loads torch only then. The meaning
of the settings is told where the losses are, in `objectives.losses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tunefork.workflow.spec_part import Part, by_name

if TYPE_CHECKING:
    from tunefork.objectives import Objective

_Positive = Annotated[float, Field(gt=0)]
_Weight = Annotated[float, Field(ge=0)]


class SftSpec(Part):
    """Supervised fine-tuning: learn to give the answers of the rows."""

    name: Literal["sft"]

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Sft

        return Sft()


class DpoSpec(Part):
    """Direct preference optimization: learn from pairs of a better and a worse answer."""

    name: Literal["dpo"]
    beta: _Positive = 0.1  # the paper's; more stays nearer to the base
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # share of labels that are wrong
    length_normalized: bool = False  # compare per token
    sft_weight: _Weight = 0.0  # of the better answers' cross-entropy

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Dpo

        return Dpo(
            beta=self.beta,
            form=self.loss,
            label_smoothing=self.label_smoothing,
            is_length_normalized=self.length_normalized,
            sft_weight=self.sft_weight,
        )


class KtoSpec(Part):
    """Kahneman-Tversky optimization: learn from answers judged good or bad."""

    name: Literal["kto"]
    beta: _Positive = 0.1  # the paper's; more stays nearer to the base
    good_weight: _Positive = 1.0
    bad_weight: _Positive = 1.0

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Kto

        return Kto(beta=self.beta, good_weight=self.good_weight, bad_weight=self.bad_weight)


class OrpoSpec(Part):
    """Odds ratio preference optimization: pairs, learned without a reference."""

    name: Literal["orpo"]
    odds_weight: _Weight = 0.1  # the paper's, for small models

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Orpo

        return Orpo(odds_weight=self.odds_weight)


class SimpoSpec(Part):
    """Simple preference optimization: pairs, compared per token without a reference."""

    name: Literal["simpo"]
    beta: _Positive = 2.0  # the paper's least
    margin: _Weight = 1.0  # half of beta, as the paper advises to start from

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Simpo

        return Simpo(beta=self.beta, margin=self.margin)


class RewardSpec(Part):
    """Reward model: learn to say how good an answer is, from pairs."""

    name: Literal["reward"]
    centre: _Weight = 0.01  # the paper's; how strongly rewards are held around zero

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Reward

        return Reward(centre=self.centre)


class ClassifySpec(Part):
    """Classification: learn which label a text has."""

    name: Literal["classify"]
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0  # 0: texts weigh alike; 1: labels do
    out_of_scope: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of texts to leave unlabelled

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Classify

        return Classify(balance=self.balance)


class PretrainSpec(Part):
    """Continued pre-training: learn the language of plain texts."""

    name: Literal["pretrain"]

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Pretrain

        return Pretrain()


ObjectiveSpec = Annotated[
    SftSpec | DpoSpec | KtoSpec | OrpoSpec | SimpoSpec | RewardSpec | ClassifySpec | PretrainSpec,
    Field(discriminator="name"),
    by_name,
]
