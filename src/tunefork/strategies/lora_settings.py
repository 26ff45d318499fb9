"""How large LoRA's change may be, and where; and what of it PEFT's config says."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from tunefork.core.errors import ModelError
from tunefork.strategies.folder import HEAD_MODULE, unusable
from tunefork.strategies.targets import by_pattern

# Starts of A and B for which PEFT takes the same out of the base, which would have to be changed.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# What PEFT calls those of our settings that have another name there.
_PEFT_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout"}
# What a LoRA adapter of PEFT may have besides, and we do not compute.
_UNKNOWN = (
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
)


class LoraSettings(BaseModel):
    """How large the change may be, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(default=16, ge=1, le=4096)
    alpha: float = Field(default=32.0, gt=0)  # the published experiments' choice
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = None  # ends of module names; None is all linear layers
    # Other ranks and alphas for layers whose name, or its end, matches: regular expressions.
    rank_pattern: dict[str, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[str, PositiveFloat] = Field(default_factory=dict)
    rslora: bool = False  # scale alpha / sqrt(rank), which is stable at high ranks
    dora: bool = False  # magnitude and direction apart
    # B's learning rate over A's (LoRA+, Hayou et al. 2024, arXiv 2402.12354).
    plus_ratio: float = Field(default=1.0, gt=0)

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _are_patterns(cls, patterns: dict[str, float]) -> dict[str, float]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"`{pattern}` is no regular expression: {error}") from error
        return patterns

    def rank_of(self, layer: str) -> int:
        """Return the rank of a layer's change, by the layer's whole name."""
        return by_pattern(self.rank_pattern, layer, self.rank)

    def scale_of(self, layer: str) -> float:
        """Return the factor of a layer's change.

        alpha / rank, or alpha / sqrt(rank) (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732).
        """
        rank = self.rank_of(layer)
        alpha = by_pattern(self.alpha_pattern, layer, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)

    def check_patterns(self, layers: Iterable[str]) -> None:
        """Refuse patterns that match none of the layers to change.

        Raises:
            ModelError: There is such a pattern.
        """
        names = list(layers)
        for field in ("rank_pattern", "alpha_pattern"):
            for pattern in getattr(self, field):
                if not any(by_pattern({pattern: True}, name, False) for name in names):
                    raise ModelError(
                        f"`{pattern}` of `{field}` matches no layer that is tuned",
                        hint=f"layers are called `{names[0]}` and alike; a pattern is a regular "
                        "expression for the whole name or for its end, from a dot on",
                    )

    def as_peft(self) -> dict[str, Any]:
        """Return what PEFT's config says of them."""
        return {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "rank_pattern": self.rank_pattern,
            "alpha_pattern": self.alpha_pattern,
            "use_rslora": self.rslora,
            "use_dora": self.dora,
        }


def settings_from_peft(config: dict[str, Any], path: Path) -> LoraSettings:
    """Return the settings that a config of PEFT says, but for the targets: tensors name these.

    Args:
        config: What `adapter_config.json` holds.
        path: Where it lies.

    Raises:
        ModelError: It says something that we do not compute, or makes no sense.
    """
    _check_start(config, path)
    unknown = [key for key in _UNKNOWN if config.get(key)]
    if config.get("modules_to_save") == [HEAD_MODULE]:  # a head that stands beside the change
        unknown.remove("modules_to_save")
    if config.get("bias", "none") != "none":
        unknown.append("bias")
    if unknown:
        raise ModelError(
            f"this LoRA adapter uses {', '.join(f'`{key}`' for key in unknown)}, "
            "which is not supported yet",
            where=path,
            hint="use a LoRA adapter without, or merge it into its base with the tool it is of",
        )
    try:
        return LoraSettings(
            rank=config["r"],
            alpha=config["lora_alpha"],
            dropout=config.get("lora_dropout") or 0.0,
            rank_pattern=config.get("rank_pattern") or {},
            alpha_pattern=config.get("alpha_pattern") or {},
            rslora=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
        )
    except KeyError as error:
        raise unusable(path, f"it does not say {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = _PEFT_NAMES.get(str(first["loc"][0]), str(first["loc"][0]))
        raise unusable(path, f"`{field}` cannot be {first['input']!r}: {first['msg']}") from error


def _check_start(config: dict[str, Any], path: Path) -> None:
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"this LoRA adapter began as `{start}`, which changed the base it stands on",
            where=path,
            hint="save it again in PEFT with `path_initial_model_for_weight_conversion`, "
            "which makes an adapter for the unchanged base of it",
        )
