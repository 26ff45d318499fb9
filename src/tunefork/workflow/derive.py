"""Turn `auto` into numbers, by rules that are stated here and in `rules`; a run prints them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tunefork.data import Items
from tunefork.evaluation import Setting
from tunefork.models.memory import activation_bytes_per_token
from tunefork.workflow import rules
from tunefork.workflow.estimate import Body, Memory, Trainable, estimate, heaviest_rows
from tunefork.workflow.machine import Machine, this_machine
from tunefork.workflow.objective_specs import FromRewards
from tunefork.workflow.settle import Values, build, quantization_of, settle
from tunefork.workflow.spec import Spec
from tunefork.workflow.strategy_specs import (
    AutoSpec,
    ChosenSpec,
    FullSpec,
    LoraSpec,
    PrefixSpec,
)

if TYPE_CHECKING:  # these import torch
    from tunefork.models import Base
    from tunefork.models.quantized import Quantization
    from tunefork.strategies import Strategy
    from tunefork.training import TrainingData, TrainSettings

_LONGEST_ROW = 2048  # tokens; longer rows are asked for by name, since memory grows with them
_ACTIVATIONS = {"cpu": 1 << 30, "cuda": 16 << 30}  # bytes past which nothing gets faster
_LEAST_AT_ONCE, _MOST_AT_ONCE = 512, {"cpu": 2048, "cuda": 32768}  # tokens
_LEAST_TO_FIT = 128  # tokens at once, where memory is short
_ROUND_TO = 64  # tokens
PREFERRED = (LoraSpec(name="lora"), LoraSpec(name="qlora"))  # the first that fits
_INSTEAD = FullSpec(name="full")  # where LoRA would be about as large as the base, and it fits


@dataclass(frozen=True)
class Derived:
    """Everything a run is started with."""

    settings: TrainSettings
    chosen: ChosenSpec  # the strategy, with every number settled
    strategy: Strategy
    origins: tuple[Setting, ...]  # each value and where it comes from
    trainable: Trainable
    memory: Memory  # as predicted

    @property
    def quantization(self) -> Quantization | None:
        """How the base is to be kept."""
        return quantization_of(self.chosen)


def longest_row(spec: Spec, base: Base) -> int:
    """Return the longest row to train on, in tokens; a learned prefix takes some of the base's."""
    limit = base.max_length
    if limit is not None and isinstance(spec.strategy, PrefixSpec):
        chosen = settle(spec.strategy, base, Values())
        assert isinstance(chosen, PrefixSpec)
        assert isinstance(chosen.tokens, int), "settled"
        limit = max(1, limit - chosen.tokens)
    if spec.training.max_length != "auto":
        given = spec.training.max_length
        return given if limit is None else min(given, limit)
    return _LONGEST_ROW if limit is None else min(limit, _LONGEST_ROW)


def derive(
    spec: Spec,
    base: Base,
    data: TrainingData,
    *,
    machine: Machine | None = None,
    body: Body | None = None,
    begun: str | None = None,
) -> Derived:
    """Return the settings of a run over the data.

    Args:
        spec: What is asked for.
        base: What is tuned.
        data: All that it is tuned on.
        machine: What it will run on; by default this machine.
        body: The base's layers, where they are at hand.
        begun: The strategy that a run began with, which is to go on with it; `auto` might be
            another by now, since it asks what memory is free.

    Raises:
        ModelError: The base's config describes no decoder, or it lacks a layer that is named.
    """
    machine, body = machine or this_machine(), body or Body(base)
    if not isinstance(spec.strategy, AutoSpec):
        return _derive(spec, spec.strategy, body, data, machine)
    for chosen in (_INSTEAD, *PREFERRED):
        if chosen.name == begun:
            return _derive(spec, chosen, body, data, machine)
    lora = _derive(spec, PREFERRED[0], body, data, machine)
    order = (_INSTEAD, *PREFERRED) if outgrows(lora, body.n_parameters) else PREFERRED
    for chosen in order:
        found = lora if chosen == PREFERRED[0] else _derive(spec, chosen, body, data, machine)
        if found.memory.total <= machine.usable_bytes:
            break
    return found


def outgrows(lora: Derived, n_parameters: int) -> bool:
    """Say whether LoRA would be about as large as the base; see `rules.outgrows`."""
    assert isinstance(lora.chosen, LoraSpec), "no other is asked"
    assert isinstance(lora.chosen.rank, int), "settled"
    return rules.outgrows(lora.chosen.rank, lora.trainable.parameters, n_parameters)


def _derive(
    spec: Spec, given: ChosenSpec, body: Body, data: TrainingData, machine: Machine
) -> Derived:
    from tunefork.training import TrainSettings

    base, training = body.base, spec.training
    n_tokens, has_validation = data.tokens_per_epoch, data.validation is not None
    rewards = spec.objective if isinstance(spec.objective, FromRewards) else None
    values = Values()
    values.add("strategy", given.name, not isinstance(spec.strategy, AutoSpec))
    objective = spec.objective.name
    chosen = settle(given, base, values, _rank(given, body, data, objective))
    row_tokens = n_tokens / max(1, len(data.rows))
    usual = rules.batch_tokens(n_tokens, chosen.name, objective, row_tokens)
    if rewards is not None:  # it counts the tokens of the prompts
        usual = max(1, round(rewards.prompts * row_tokens))
    batch_tokens = values.choose("batch_tokens", training.batch_tokens, usual)
    steps_per_epoch = max(1, round(n_tokens / batch_tokens))
    epochs = values.choose(
        "epochs", training.epochs, rules.epochs(steps_per_epoch, objective, chosen.name)
    )
    rate = rules.learning_rate(
        base.hidden_size,
        chosen.name,
        _answer_tokens(spec, data),
        objective,
        steps_per_epoch * epochs,
    )
    learning_rate = values.choose("learning_rate", training.learning_rate, rate)
    pause = max(1, steps_per_epoch // 2)  # between two validations
    if rewards is not None:
        pause = rules.rollouts_between(steps_per_epoch * epochs) * rewards.passes
    max_length = longest_row(spec.model_copy(update={"strategy": chosen}), base)
    values.add("max_length", max_length, max_length == training.max_length)
    values.add("schedule", training.schedule, "schedule" in training.model_fields_set)
    values.add("seed", training.seed, "seed" in training.model_fields_set)
    trainable = body.trainable(chosen)
    lengths, at_once = data.together().rows.lengths, batch_tokens
    if rewards is not None:
        lengths = lengths + rewards.max_tokens
        at_once = int(lengths.max(initial=0)) * rewards.prompts * rewards.answers
    room = find_room(body, chosen, trainable, machine, lengths, at_once)
    settings = TrainSettings(
        epochs=epochs,
        learning_rate=learning_rate,
        schedule=training.schedule,
        batch_tokens=batch_tokens,
        micro_tokens=room.micro_tokens,
        recompute=room.recompute,
        validate_every=pause if has_validation else 0,
        checkpoint_every=max(10, pause),
        patience=6 if has_validation else 0,
        seed=training.seed,
    )
    return Derived(
        settings=settings,
        chosen=chosen,
        strategy=build(chosen, _start(chosen, base, data)),
        origins=tuple(values.rows),
        trainable=trainable,
        memory=room.memory,
    )


def _rank(given: ChosenSpec, body: Body, data: TrainingData, objective: str) -> int | None:
    """Return the rank that `auto` stands for, by what there is to learn of the user's own rows."""
    if not isinstance(given, LoraSpec) or given.rank != "auto":
        return None
    plain = {"rank": 1, "alpha": 1.0, "dora": False, "rank_pattern": {}, "alpha_pattern": {}}
    of_one = body.trainable(given.model_copy(update=plain))
    n_learned = 0
    if objective in rules.WORD_FOR_WORD:
        n_learned = int((Items.of(data.rows).rows.weights > 0).sum())
    return rules.rank(body.base.hidden_size, of_one.parameters, n_learned)


def _answer_tokens(spec: Spec, data: TrainingData) -> float:
    """Return how long a row's answer is on average, where answers count as wholes; else 1."""
    if spec.objective.name not in rules.PREFERENCES:
        return 1.0
    rows = data.together().rows
    return max(1.0, float((rows.weights > 0).sum()) / max(1, len(rows)))


def tokens_at_once(base: Base, device: str) -> int:
    """Return how many tokens to compute at once where memory does not ask for less."""
    per_token = activation_bytes_per_token(base.config)
    fitting = round(_ACTIVATIONS[device] / per_token / _ROUND_TO) * _ROUND_TO
    return min(max(fitting, _LEAST_AT_ONCE), _MOST_AT_ONCE[device])


@dataclass(frozen=True)
class Room:
    """How much is computed at once, and the memory that it is predicted to take."""

    micro_tokens: int
    recompute: bool
    memory: Memory


def find_room(
    body: Body,
    chosen: ChosenSpec,
    trainable: Trainable,
    machine: Machine,
    lengths: NDArray[np.int64],
    batch_tokens: int,
) -> Room:
    """Return how many tokens to compute at once, and whether to keep little of them.

    As many as `tokens_at_once` says, and no more than a step has. Where that does not fit, layers
    are computed again; where even that does not, less is computed at once, as long as the longest
    row goes in.
    """

    def taken(micro_tokens: int, recompute: bool) -> Room:
        rows = heaviest_rows(lengths, micro_tokens)
        memory = estimate(body, chosen, trainable, machine, rows, recompute=recompute)
        return Room(micro_tokens, recompute, memory)

    micro_tokens = min(tokens_at_once(body.base, machine.device), batch_tokens)
    room = taken(micro_tokens, recompute=False)
    least = max(_LEAST_TO_FIT, int(lengths.max(initial=0)))
    while room.memory.total > machine.usable_bytes:
        if room.recompute and micro_tokens // 2 < least:
            break
        micro_tokens = micro_tokens // 2 if room.recompute else micro_tokens
        room = taken(micro_tokens, recompute=True)
    return room


def _start(chosen: ChosenSpec, base: Base, data: TrainingData) -> tuple[int, ...]:
    """Return the tokens that a learned prefix begins as the states of."""
    if not isinstance(chosen, PrefixSpec):
        return ()
    from tunefork.strategies import first_tokens

    assert isinstance(chosen.tokens, int), "settled"
    if chosen.text is None:
        return first_tokens(data.together().rows, chosen.tokens)
    from tunefork.data import load_tokenizer

    return tuple(load_tokenizer(base.folder).encode(chosen.text))[: chosen.tokens]
