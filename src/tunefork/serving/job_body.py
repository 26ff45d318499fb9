"""What `/v1/fine_tuning/jobs` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunefork.serving.bodies import Body, Metadata, Name, Part
from tunefork.serving.errors import invalid
from tunefork.serving.job_settings import JobSettings

Auto = Literal["auto"]
FileId = Annotated[str, Field(min_length=1, max_length=100)]
_Positive = Annotated[float, Field(gt=0, le=1000)]


class Hyperparameters(Part):
    """How to train; `auto` is derived by the rules that the command line has."""

    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto | None = None  # rows
    learning_rate_multiplier: _Positive | Auto | None = None  # of the derived rate
    n_epochs: Annotated[int, Field(ge=1, le=100)] | Auto | None = None


class DpoHyperparameters(Hyperparameters):
    """The same, and how near to stay to the base."""

    beta: Annotated[float, Field(gt=0, le=2)] | Auto | None = None


class ReinforcementHyperparameters(Hyperparameters):
    """The same, and how many answers are drawn; a batch is of prompts."""

    compute_multiplier: Annotated[float, Field(gt=0, le=10)] | Auto | None = None
    eval_interval: Auto | None = None
    eval_samples: Auto | None = None
    reasoning_effort: Literal["default"] | None = None


class Supervised(Part):
    """Learn the answers of the rows."""

    hyperparameters: Hyperparameters | None = None


class Dpo(Part):
    """Learn from pairs of a better and a worse answer."""

    hyperparameters: DpoHyperparameters | None = None


class Reinforcement(Part):
    """Learn from what a grader says of the model's own answers."""

    grader: dict[str, Any]
    hyperparameters: ReinforcementHyperparameters | None = None


class Method(Part):
    """How to learn."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None

    def settings(self) -> Supervised | Dpo | Reinforcement:
        """Return those of the method that is chosen.

        Raises:
            ApiError: Others are given, or those that it needs are not.
        """
        given = {
            "supervised": self.supervised,
            "dpo": self.dpo,
            "reinforcement": self.reinforcement,
        }
        for name, value in given.items():
            if value is not None and name != self.type:
                raise invalid(f"The method is `{self.type}`.", f"method.{name}")
        chosen = given[self.type]
        if chosen is not None:
            return chosen
        if self.type == "reinforcement":
            raise invalid("Reinforcement needs a grader.", "method.reinforcement.grader")
        return Dpo() if self.type == "dpo" else Supervised()


class JobBody(Body):
    """What to train, and on what."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {"integrations": ([],)}

    model: Name
    training_file: FileId
    validation_file: FileId | None = None
    golden_file: FileId | None = None  # ours: questions that decide on the verdict
    hyperparameters: Hyperparameters | None = None
    metadata: Metadata | None = None
    method: Method | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    settings: JobSettings | None = None  # ours: parts of a spec
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None

    def chosen(self) -> Method:
        """Return the method, the older way of saying it included.

        Raises:
            ApiError: It is said twice.
        """
        if self.settings is not None and (self.hyperparameters or self.method):
            raise invalid("With `settings` leave `method` and `hyperparameters` out.", "settings")
        if self.hyperparameters is None:
            return self.method or Method(type="supervised")
        if self.method is not None:
            raise invalid(
                "Give `hyperparameters` inside of `method`, not beside.", "hyperparameters"
            )
        supervised = Supervised(hyperparameters=self.hyperparameters)
        return Method(type="supervised", supervised=supervised)
