"""A trained head beside what a strategy saved.

In an adapter's folder it is what PEFT knows as `modules_to_save`: one more tensor in the same file,
named as transformers names the head of its sequence classifiers. Beside a whole model it is a
file of its own, since the model itself keeps the head for words.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tunefork.models import saving_tensors
from tunefork.models.heads import Head
from tunefork.strategies.folder import (
    CONFIG_FILE,
    HEAD_MODULE,
    HEAD_TENSOR,
    WEIGHTS_FILE,
    is_adapter,
    read_config,
    read_tensors,
    unusable,
    write_adapter,
)

_BESIDE = "head.safetensors"
_NAME = f"{HEAD_MODULE}.weight"


def save_head(head: Head, folder: Path) -> None:
    """Write a head into the folder in which a strategy was saved."""
    if is_adapter(folder):
        config = {
            **read_config(folder),
            "task_type": "SEQ_CLS",
            "modules_to_save": [HEAD_MODULE],
        }
        write_adapter(folder, config, {**read_tensors(folder), HEAD_TENSOR: head.weight})
        return
    with saving_tensors():
        save_file({_NAME: head.weight.detach().cpu().contiguous()}, folder / _BESIDE)


def load_head(folder: Path, n_outputs: int, device: torch.device | str) -> Head:
    """Return the head that lies in a folder.

    Raises:
        ModelError: There is none, it is damaged, or it has another number of outputs.
    """
    path, name = folder / _BESIDE, _NAME
    if is_adapter(folder):
        path, name = folder / WEIGHTS_FILE, HEAD_TENSOR
    try:
        weight = load_file(path).get(name)
    except (OSError, ValueError, SafetensorError) as error:
        raise unusable(path, str(error)) from error
    if weight is None:
        raise unusable(path, f"it holds no head (`{name}`), which {CONFIG_FILE} or its card names")
    if weight.ndim != 2 or weight.shape[0] != n_outputs:
        raise unusable(path, f"its head has the shape {tuple(weight.shape)}, not {n_outputs} rows")
    return Head(weight.to(device))
