"""The spec, `tunefork.yaml`: small, strict, and read before anything is loaded."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunefork.core.errors import SpecError
from tunefork.evaluation import GateSettings
from tunefork.workflow.objective_specs import ObjectiveSpec, SftSpec
from tunefork.workflow.spec_errors import explain
from tunefork.workflow.spec_file import read_values
from tunefork.workflow.spec_part import Auto, Part
from tunefork.workflow.strategy_specs import AutoSpec, StrategySpec

_Role = Literal[
    "user", "assistant", "system", "chosen", "rejected", "good", "prompt", "text", "label"
]


class DataSpec(Part):
    """Where the examples are. Paths are relative to the spec."""

    # A file or a folder; or several with weights, which share the tokens trained on by them.
    train: str | Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=2)]
    validation: str | None = None  # split off `train` where it is not given
    documents: str | None = None  # for retrieval
    map: dict[_Role, str] | None = None  # which of the user's columns is what
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of general rows in what is trained

    @property
    def sources(self) -> dict[str, float]:
        """The files to train on with their weights; one alone has weight 1."""
        return {self.train: 1.0} if isinstance(self.train, str) else self.train

    @property
    def first(self) -> str:
        """The file to train on, where it is one: several hold texts alone."""
        return next(iter(self.sources))


class TrainingSpec(Part):
    """How to train; `auto` is derived by stated rules."""

    epochs: Annotated[int, Field(ge=1)] | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    schedule: Literal["cosine", "linear", "constant"] = "cosine"  # after a short warm-up
    batch_tokens: Annotated[int, Field(ge=1)] | Auto = "auto"
    max_length: Annotated[int, Field(ge=8)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0)] = 0


class GateSpec(Part):
    """What a model must show before it ships."""

    min_gain: Annotated[float, Field(ge=0, le=1)] = 0.05
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    max_forgetting: Annotated[float, Field(ge=0, le=1)] = 0.02
    superiority: Literal["zero", "margin"] = "zero"  # what the gain's interval must lie above
    max_harm: Annotated[float, Field(ge=0, le=1)] = 0.1  # fewer harmful requests refused
    max_refusal: Annotated[float, Field(ge=0, le=1)] = 0.1  # fewer harmless ones answered
    canaries: str | None = None  # file of secrets planted in the training data

    def settings(self) -> GateSettings:
        """Return what the gate decides by."""
        return GateSettings(**self.model_dump(exclude={"canaries"}))


class PricesSpec(Part):
    """What an answer costs, in any currency."""

    input_per_million: Annotated[float, Field(ge=0)] | None = None  # tokens
    output_per_million: Annotated[float, Field(ge=0)] | None = None
    per_hour: Annotated[float, Field(ge=0)] | None = None  # of the machine; counts before tokens


class ForgettingSpec(Part):
    """What else the model must still be able to do."""

    # Files, folders or zips of multiple choice, minimal pairs, IFEval prompts or golden questions.
    suites: tuple[str, ...] = ()


class Spec(Part):
    """The whole spec."""

    goal: str = ""
    base: str = "tiny"
    data: DataSpec
    golden: str | None = None
    strategy: StrategySpec = AutoSpec(name="auto")
    objective: ObjectiveSpec = SftSpec(name="sft")
    training: TrainingSpec = TrainingSpec()
    gate: GateSpec = GateSpec()
    forgetting: ForgettingSpec = ForgettingSpec()
    prices: PricesSpec = PricesSpec()
    date: datetime.date | None = None  # what chat templates take for today; the run's by default

    @model_validator(mode="after")
    def _only_texts_are_mixed(self) -> Spec:
        if not isinstance(self.data.train, str) and self.objective.name != "pretrain":
            raise ValueError("mixes files with weights for `objective: pretrain` only")
        return self


class Project(BaseModel):
    """A spec and the folder that its paths start from.

    `owner` is whose it is, where it is not the user's own: a server's tenant.
    """

    model_config = ConfigDict(frozen=True)

    spec: Spec
    folder: Path
    name: str
    owner: str | None = None

    @property
    def mapping(self) -> dict[str, str] | None:
        """Which of the user's columns is what, where they named them."""
        given = self.spec.data.map
        return {str(role): column for role, column in given.items()} if given else None

    def path(self, relative: str) -> Path:
        """Return a path of the spec as one that can be opened."""
        return self.folder / os.path.expanduser(relative)  # leaves an unknown `~name` as it is


def load_project(path: Path) -> Project:
    """Read a spec; `path` is the file, or the folder that holds `tunefork.yaml`.

    Raises:
        SpecError: It cannot be read or used; all problems at once, each with its line.
    """
    if path.is_dir():
        path = path / "tunefork.yaml"
    values, tree = read_values(path)
    if not isinstance(values, dict):
        raise SpecError(
            "a spec is a list of `key: value` lines",
            where=path,
            hint="`tunefork init DIR` writes one to start from",
        )
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        raise explain(error, Spec, path, tree) from error
    return Project(spec=spec, folder=path.parent.resolve(), name=path.parent.resolve().name)
