"""The candidates of a sweep: every combination of the values that `--over` gives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from tunefork.core.errors import UsageError, did_you_mean
from tunefork.workflow.spec import Spec
from tunefork.workflow.spec_part import parts_by_name

# What leaves the rows, and so the held-out loss that candidates are compared by, as they are.
_TRAINING = ("learning_rate", "epochs", "batch_tokens", "schedule")
_STRATEGY = "strategy"
_LEFT_OPEN = "lora"  # whose settings are varied where the spec leaves the strategy open
_PARTS = parts_by_name(Spec.model_fields["strategy"])
_MANY_VALUED = ("targets", "rank_pattern", "alpha_pattern")  # not to be written as one word
_EXAMPLE = "write it as --over learning_rate=1e-4,3e-4"


@dataclass(frozen=True)
class Axis:
    """A setting, and the values that it takes, as they were written."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """A combination of values, and the spec that has them."""

    values: Mapping[str, str]
    spec: Spec

    @property
    def name(self) -> str:
        """What to call it."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items())


def parse_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Return what `KEY=VALUE,VALUE…` says, the strategy first.

    Raises:
        UsageError: It says no values, or a setting that cannot be varied.
    """
    axes: dict[str, Axis] = {}
    for text in texts:
        key, _, rest = (part.strip() for part in text.partition("="))
        values = tuple(dict.fromkeys(value.strip() for value in rest.split(",") if value.strip()))
        if not key or not values:
            raise UsageError(f"`--over {text}` names no setting with its values", hint=_EXAMPLE)
        if key in axes:
            raise UsageError(f"`{key}` is given twice", hint=f"{_EXAMPLE}, all values at once")
        _check_key(key)
        axes[key] = Axis(key, values)
    if not axes:
        raise UsageError("nothing to vary", hint=_EXAMPLE)
    return tuple(sorted(axes.values(), key=lambda axis: axis.key != _STRATEGY))


def expand(spec: Spec, axes: Sequence[Axis]) -> list[Point]:
    """Return every combination, each once.

    A strategy is not asked for settings that it does not have, so `strategy=lora,prefix` and
    `rank=4,16` make three candidates.

    Args:
        spec: What stays the same. Where it leaves the strategy open, the settings are LoRA's.
        axes: What varies.

    Raises:
        UsageError: A value cannot be used, no strategy has a setting, or there is only one
            combination.
    """
    found: dict[tuple[tuple[str, str], ...], Point] = {}
    for chosen in itertools.product(*(axis.values for axis in axes)):
        values = dict(zip((axis.key for axis in axes), chosen, strict=True))
        known = (*_TRAINING, _STRATEGY, *_settings(values.get(_STRATEGY, spec.strategy.name)))
        values = {key: value for key, value in values.items() if key in known}
        if tuple(values.items()) not in found:
            found[tuple(values.items())] = Point(values, _spec_with(spec, values))
    for axis in axes:
        if not any(axis.key in point.values for point in found.values()):
            raise UsageError(
                f"`{axis.key}` is no setting of the strategy `{spec.strategy.name}`",
                hint="vary a setting that it has, or give `--over strategy=…` too",
            )
    if len(found) < 2:
        raise UsageError("there is only one candidate", hint="give two values or more")
    return list(found.values())


def _settings(strategy: str) -> list[str]:
    """Return the settings of a strategy that can be varied."""
    part = _PARTS.get(_LEFT_OPEN if strategy == "auto" else strategy)
    fields = part.model_fields if part is not None else {}
    return [key for key in fields if key != "name" and key not in _MANY_VALUED]


def _check_key(wanted: str) -> None:
    known = [*_TRAINING, _STRATEGY, *(key for name in _PARTS for key in _settings(name))]
    if wanted not in known:
        raise UsageError(
            f"`{wanted}` cannot be varied",
            hint=did_you_mean(wanted, known) or f"there are: {', '.join(dict.fromkeys(known))}",
        )


def _spec_with(spec: Spec, values: Mapping[str, str]) -> Spec:
    """Return the spec with other values; a strategy keeps what the spec says of it."""
    plain = spec.model_dump(mode="json")
    name = values.get(_STRATEGY, spec.strategy.name)
    own = {key: value for key, value in values.items() if key not in (*_TRAINING, _STRATEGY)}
    name = _LEFT_OPEN if name == "auto" and own else name
    before = plain["strategy"] if name == spec.strategy.name else {}
    plain["strategy"] = {**before, "name": name, **own}
    plain["training"] |= {key: value for key, value in values.items() if key in _TRAINING}
    try:
        return Spec.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        key = next((key for key in map(str, reversed(first["loc"])) if key in values), _STRATEGY)
        raise UsageError(
            f"`--over {key}={values.get(key, name)}` cannot be used: {first['msg']}", hint=_EXAMPLE
        ) from error
