"""Learning from rewards through the loop: what is drawn, learned, watched and resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.small import VOCABULARY, packed_model
from tests.training.small_run import messages
from tunefork.core.errors import RunError
from tunefork.core.events import CheckpointSaved, Event, Sampled, Sink, StepDone, Warned, no_sink
from tunefork.data import Rendered, TokenRows
from tunefork.models import Head, hash_parameters
from tunefork.objectives import (
    Asked,
    Expectations,
    Groups,
    Grpo,
    Mark,
    Objective,
    Ppo,
    Rollouts,
    Speaker,
    Watch,
)
from tunefork.objectives.watch import Signals
from tunefork.strategies import Lora, LoraSettings
from tunefork.training import (
    CheckpointStore,
    TrainingData,
    TrainResult,
    TrainSettings,
    TrainStep,
    rehearse,
    train,
)

_LOW = 40  # tokens below earn
_SETTINGS = TrainSettings(
    epochs=8,
    learning_rate=3e-2,
    batch_tokens=40,
    micro_tokens=200,
    validate_every=6,
    checkpoint_every=1,
    seed=3,
)


class _Words:
    """A renderer whose words are the numbers of the tokens; 2 ends an answer."""

    end_ids = frozenset({2})

    def parse(self, ids: Sequence[int]) -> tuple[str, str]:
        words = [str(token) for token in ids if token not in self.end_ids]
        return " ".join(words), "stop"


def _prompts(count: int, seed: int) -> TokenRows:
    random = np.random.default_rng(seed)
    rows = [random.integers(4, VOCABULARY, random.integers(9, 20)).tolist() for _ in range(count)]
    return TokenRows.from_rendered(Rendered(ids, [0.0] * len(ids)) for ids in rows)


def _share(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
    """Reward the share of an answer's words that are low numbers."""
    words = [[int(word) < _LOW for word in answer.split()] for answer in answers]
    shares = [sum(each) / len(each) if each else 0.0 for each in words]
    return [Mark(share, share > 0.5) for share in shares]


@dataclass
class _Setup:
    """One small run from rewards."""

    name: str = "grpo"
    passes: int = 1
    redraws: bool = False
    judge: Any = _share
    settings: TrainSettings = _SETTINGS
    sink: Sink = no_sink
    has_held_out: bool = True
    seen: list[Event] = field(default_factory=list)

    def run(self, folder: Path) -> tuple[str, TrainResult]:
        model = packed_model("llama")
        with torch.no_grad():  # else the head is too small for any answer to become likely
            model.get_output_embeddings().weight.mul_(10)
        method = Lora(LoraSettings(rank=4, dropout=0.1))
        method.attach(model, 3)
        objective, head = self._objective(model)
        parameters = method.parameters(model)
        if head is not None:
            parameters = {**parameters, "head": head.weight}
        rows, held_out = _prompts(12, 0), _prompts(4, 1)

        def told(event: Event) -> None:
            self.seen.append(event)
            self.sink(event)

        @contextlib.contextmanager
        def base() -> Any:
            with method.disabled(model):
                yield model

        rollouts = Rollouts(
            Speaker(model, _Words(), n_answers=4, max_tokens=6, seed=3),  # type: ignore[arg-type]
            Asked(rows, self.judge, lambda row: f"rows:{row}", str),
            Asked(held_out, self.judge, lambda row: f"held:{row}", str)
            if self.has_held_out
            else None,
            Groups(model, base, divides=True, keeps_old=self.passes > 1)
            if head is None
            else Expectations(
                model, base, head, coefficient=0.05, target=6.0, discount=1.0, trace=0.95
            ),
            Watch(None, told),
            told,
            passes=self.passes,
            redraws=self.redraws,
        )
        data = TrainingData(rows, held_out if self.has_held_out else None, rollouts=rollouts)
        step = TrainStep(model, objective, self.settings, head)
        settings = rehearse(step, data, self.settings, told)
        result = train(step, parameters, data, settings, CheckpointStore(folder), told)
        return hash_parameters(parameters.items()), result

    def _objective(self, model: Any) -> tuple[Objective, Head | None]:
        if self.name == "ppo":
            objective = Ppo().begin(model)
            return objective, objective.head
        return Grpo(), None


class _Stop(Exception):
    pass


_KINDS = [
    pytest.param("grpo", 1, False, id="grpo"),
    pytest.param("grpo", 3, True, id="grpo-passes-redraws"),
    pytest.param("ppo", 2, False, id="ppo"),
]


@pytest.mark.parametrize(("name", "passes", "redraws"), _KINDS)
def test_rewards_rise_and_an_interrupted_run_ends_in_the_same_bits(
    name: str, passes: int, redraws: bool, tmp_path: Path
) -> None:
    whole = _Setup(name, passes, redraws)
    weights, result = whole.run(tmp_path / "whole")
    steps = [event for event in whole.seen if isinstance(event, StepDone)]
    first, last = steps[:3], steps[-3:]
    rewards = [np.mean([step.metrics["reward"] for step in part]) for part in (first, last)]
    assert rewards[1] > rewards[0] + 0.1, rewards
    assert result.state.base_loss is not None
    assert result.state.best_loss is not None
    assert result.state.best_loss < result.state.base_loss  # minus the mean reward
    assert {"reward", "passed", "length"} <= result.state.best_metrics.keys()
    saved: list[Event] = []

    def stopping(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append(event)
            if len(saved) == 4:  # for 3 passes in the middle of a rollout
                raise _Stop

    with pytest.raises(_Stop):
        _Setup(name, passes, redraws, sink=stopping).run(tmp_path / "cut")
    again, resumed = _Setup(name, passes, redraws).run(tmp_path / "cut")
    assert resumed.resumed_from == 4
    assert again == weights
    assert resumed.state.best_metrics == result.state.best_metrics


def test_samples_are_told_with_what_they_earned(tmp_path: Path) -> None:
    setup = _Setup()
    setup.run(tmp_path)
    tables = [event for event in setup.seen if isinstance(event, Sampled)]
    assert tables[0].step == 0
    assert len(tables) >= 5
    for table in tables:
        rewards = [float(str(each["reward"])) for each in table.samples[:4]]
        gains = [float(str(each["advantage"])) for each in table.samples[:4]]
        assert np.argmax(rewards) == np.argmax(gains)
        assert sum(gains) == pytest.approx(0, abs=1e-3)
        assert len({str(each["prompt"]) for each in table.samples[:4]}) == 1


def test_answers_follow_from_weights_and_seed_and_differ_between_rollouts() -> None:
    model = packed_model("llama")
    asked = Asked(_prompts(3, 0), _share, str, str)
    speaker = Speaker(model, _Words(), n_answers=3, max_tokens=5, seed=1)  # type: ignore[arg-type]
    one, other = speaker.answer(asked, [0, 1, 2], 7), speaker.answer(asked, [0, 1, 2], 7)
    assert one.drawn == other.drawn
    assert speaker.answer(asked, [0, 1, 2], 8).drawn != one.drawn
    # Whoever else is asked changes no answer.
    alone = speaker.answer(asked, [1], 7)
    assert alone.drawn == one.drawn[3:6]


def test_the_distribution_that_is_drawn_from_is_the_models() -> None:
    from tunefork.inference import draw
    from tunefork.models import PackedLayout, run_on

    model, prompt = packed_model("llama"), _prompts(1, 0).row(0)[0].tolist()
    found = draw(model, [prompt], {2}, n_answers=4000, max_tokens=1, seeds=range(4000))
    counts = np.bincount([each.ids[0] for each in found], minlength=VOCABULARY)
    logits = run_on(model, torch.tensor(prompt), PackedLayout([len(prompt)]))[-1]
    expected = torch.softmax(logits.float(), dim=0).numpy() * 4000
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < VOCABULARY - 1 + 4 * np.sqrt(2 * (VOCABULARY - 1))


def test_answers_that_cannot_be_judged_count_as_not_drawn(tmp_path: Path) -> None:
    def flaky(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
        marks = _share(numbers, answers)
        return [mark if at % 3 else Mark(None, problem="it broke") for at, mark in enumerate(marks)]

    setup = _Setup(judge=flaky)
    setup.run(tmp_path)
    told = [each for each in messages(setup.seen, Warned) if "could not be judged" in each]
    assert len(told) == 1
    assert "it broke" in told[0]


def test_where_no_answer_can_be_judged_the_run_stops_with_the_reason(tmp_path: Path) -> None:
    def broken(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
        return [Mark(None, problem="it returned nan")] * len(answers)

    with pytest.raises(RunError, match=r"not one of .* could be judged: it returned nan"):
        _Setup(judge=broken).run(tmp_path)


def test_rewards_that_teach_nothing_end_the_run_with_the_best_weights(tmp_path: Path) -> None:
    def alike(numbers: Sequence[int], answers: Sequence[str]) -> list[Mark]:
        return [Mark(1.0, True)] * len(answers)

    setup = _Setup(judge=alike, settings=_SETTINGS.model_copy(update={"epochs": 20}))
    _, result = setup.run(tmp_path)
    assert result.reason == "guarded"
    assert result.state.step == 12
    told = messages(setup.seen, Warned)
    assert sum("the run ends if that goes on" in each for each in told) == 1
    assert "training ends here, with the weights of step" in told[-1]
    alone = _Setup(judge=alike, has_held_out=False)
    _, result = alone.run(tmp_path / "alone")
    assert result.reason == "guarded"
    assert "with its last weights" in messages(alone.seen, Warned)[-1]


_USUAL = Signals(length=10, cut_off=0.1, repetition=0.1, alike=0.2, reward=0.5, divergence=0.1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cut_off": 0.95}, "run into their longest"),
        ({"length": 1.2}, "empty ones"),
        ({"repetition": 0.7}, "repetition"),
        ({"divergence": 4.0}, "nats per token"),
        ({"alike": 1.0}, "nothing is learned"),
    ],
)
def test_each_sign_warns_and_then_ends_the_run(changed: dict[str, float], said: str) -> None:
    seen: list[Event] = []
    watch = Watch(3.0, seen.append)
    for _ in range(6):
        watch.look(_USUAL)
    assert not seen
    odd = Signals(**{**_USUAL.__dict__, **changed})
    for _ in range(11):
        watch.look(odd)
    assert watch.reason is None
    again = Watch(3.0, seen.append)
    again.load_state(watch.state())
    again.look(odd)
    assert said in (again.reason or "")
    (warning,) = messages(seen, Warned)
    assert said in warning
    watch.look(_USUAL)
    watch.look(odd)
    assert watch.reason is None  # it has to go on
