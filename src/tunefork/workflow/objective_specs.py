"""How a spec chooses an objective, and its settings.

One class for each; `build` makes what the loop trains with, and loads torch only then. The meaning
of the settings is told where the losses are, in `objectives.losses`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tunefork.workflow.spec_part import Auto, Part, by_name

if TYPE_CHECKING:
    from tunefork.objectives import Objective

_Positive = Annotated[float, Field(gt=0)]
_Weight = Annotated[float, Field(ge=0)]
_Average = Literal["answer", "token", "constant"]
_AVERAGES: dict[str, _Average] = {"grpo": "answer", "dr_grpo": "constant", "dapo": "token"}
JUDGES = ("classify", "reward")  # objectives of models that give labels and numbers, no words
REWARDS = ("grader", "reward_model", "function")  # where rewards may come from


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
    labels: Literal["one", "several"] = "one"  # of each text
    separator: Annotated[str, Field(min_length=1)] | None = None  # between several in one text
    form: Literal["head", "generate"] = "head"  # or the model writes the label's name

    @model_validator(mode="after")
    def _go_together(self) -> ClassifySpec:
        if self.labels == "several" and self.form == "generate":
            raise ValueError("cannot have `form: generate`, which writes one label, with several")
        if self.labels == "several" and self.out_of_scope:
            raise ValueError("needs no `out_of_scope` with several: a text may have no label")
        if self.labels == "one" and self.separator is not None:
            raise ValueError("has a `separator` for `labels: several` only")
        return self

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Classify, ClassifyNames, ClassifySeveral

        if self.labels == "several":
            return ClassifySeveral(balance=self.balance)
        if self.form == "generate":
            return ClassifyNames(balance=self.balance)
        return Classify(balance=self.balance)


class PretrainSpec(Part):
    """Continued pre-training: learn the language of plain texts."""

    name: Literal["pretrain"]

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Pretrain

        return Pretrain()


class _FromRewards(Part):
    """What `grpo` and `ppo` have in common: where rewards come from, and what is drawn."""

    grader: str | dict[str, Any] | None = None  # a name or an object, see docs/graders.md
    reward_model: str | None = None  # a model that was trained with `objective: reward`
    function: str | None = None  # of yours, as FILE.py:NAME; it runs as a `python` grader does
    max_tokens: Annotated[int, Field(ge=1)] = 128  # of an answer
    passes: Annotated[int, Field(ge=1)] = 1  # optimizer steps on each rollout
    # The run ends where the model stays further from its base, in nats per token; null: anywhere.
    max_divergence: _Positive | None = 3.0

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [name for name in REWARDS if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(f"`{name}`" for name in given) or "nothing"
            raise ValueError(
                f"rewards come from one of `grader`, `reward_model` and `function`; {what} is given"
            )
        return self


class GrpoSpec(_FromRewards):
    """Group relative policy optimization: learn from rewards, by comparing drawn answers.

    `variant` sets what it names in the paper of that name: `dr_grpo` divides neither by the spread
    of rewards nor by the answers' lengths; `dapo` weighs tokens alike, draws other prompts in the
    place of those whose answers all earn the same, and has another `clip_high` and `kl`.
    """

    name: Literal["grpo"]
    variant: Literal["grpo", "dr_grpo", "dapo"] = "grpo"
    prompts: Annotated[int, Field(ge=1)] = 8  # of a rollout
    answers: Annotated[int, Field(ge=2)] = 8  # drawn to each prompt
    kl: _Weight | Auto = "auto"  # per nat; 0.04 as in the paper, `dapo` 0
    clip_low: _Positive = 0.2
    clip_high: _Positive | Auto = "auto"  # 0.2, `dapo` 0.28

    @property
    def kl_cost(self) -> float:
        """What a nat of divergence from the base costs."""
        return (0.0 if self.variant == "dapo" else 0.04) if self.kl == "auto" else self.kl

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Grpo

        high = 0.28 if self.variant == "dapo" else 0.2
        return Grpo(
            kl=self.kl_cost,
            clip_low=self.clip_low,
            clip_high=high if self.clip_high == "auto" else self.clip_high,
            average=_AVERAGES[self.variant],
            longest=self.max_tokens,
        )


class PpoSpec(_FromRewards):
    """Proximal policy optimization: learn from rewards, against what was expected."""

    name: Literal["ppo"]
    prompts: Annotated[int, Field(ge=1)] = 16  # of a rollout
    answers: Annotated[int, Field(ge=1)] = 4  # drawn to each prompt
    passes: Annotated[int, Field(ge=1)] = 2
    kl: _Weight = 0.05  # what a nat of divergence from the base costs at first
    target_kl: _Positive | None = 6.0  # nats per answer to hold by adapting `kl`; the paper's
    clip: _Positive = 0.2  # of ratios and of values
    value_weight: _Weight = 0.1  # of the expectations' loss
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    trace: Annotated[float, Field(ge=0, le=1)] = 0.95  # lambda of the advantages

    def build(self) -> Objective:
        """Return the objective."""
        from tunefork.objectives import Ppo

        return Ppo(clip=self.clip, value_clip=self.clip, value_weight=self.value_weight)


FromRewards = (GrpoSpec, PpoSpec)


def function_file(objective: Part) -> str | None:
    """Return the file of the function that gives an objective's rewards, if one does."""
    if not isinstance(objective, FromRewards) or objective.function is None:
        return None
    return objective.function.rpartition(":")[0] or None


ObjectiveSpec = Annotated[
    SftSpec
    | DpoSpec
    | KtoSpec
    | OrpoSpec
    | SimpoSpec
    | RewardSpec
    | ClassifySpec
    | PretrainSpec
    | GrpoSpec
    | PpoSpec,
    Field(discriminator="name"),
    by_name,
]
