"""An adapter's folder, in PEFT's format: one JSON file and one of tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunefork.core.errors import ModelError
from tunefork.core.files import write_json
from tunefork.models import saving_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
HEAD_MODULE = "score"  # transformers' name for the head of a sequence classifier
HEAD_TENSOR = f"base_model.model.{HEAD_MODULE}.weight"  # and PEFT's for its weight


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds an adapter rather than a whole model."""
    return (folder / CONFIG_FILE).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """Return what an adapter says of itself.

    Raises:
        ModelError: The file is gone or damaged, or names no method.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unusable(path, str(error)) from error
    if not isinstance(config, dict):
        raise unusable(path, "it holds no JSON object")
    if not isinstance(config.get("peft_type"), str):
        raise unusable(path, "it names no method (`peft_type`)")
    return config


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Return an adapter's tensors, by the names that the file gives them; a head is none of them.

    Raises:
        ModelError: The file is gone, damaged or empty.
    """
    path = folder / WEIGHTS_FILE
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise unusable(path, str(error)) from error
    tensors.pop(HEAD_TENSOR, None)
    if not tensors:
        raise unusable(path, "it holds no tensors")
    return tensors


def write_adapter(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write both files into an existing folder."""
    detached = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with saving_tensors():
        save_file(detached, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, dict(config))


def unusable(path: Path, reason: str) -> ModelError:
    """Return the error for a file that is damaged or incomplete."""
    hint = "bring the file back as it was saved, or tune again"
    return ModelError(f"not a usable adapter: {reason}", where=path, hint=hint)


def other_base(path: Path, reason: str) -> ModelError:
    """Return the error for an adapter that does not fit onto the base at hand."""
    return ModelError(
        f"the adapter was made for another base: {reason}",
        where=path,
        hint="use the base that its adapter_config.json names",
    )
