"""The machine that a plan is made for: this one, or one that is described by its memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil

from tunefork.core.allocator import wastes_memory
from tunefork.core.memory import free_bytes

_TO_USE = 0.9  # of what is free: other programs need some, and predictions are off by some


@dataclass(frozen=True)
class Machine:
    """What training runs on."""

    device: Literal["cpu", "cuda"]
    name: str
    memory_bytes: int
    free_bytes: int
    bytes_per_number: int  # of weights and activations: 2 for bf16, 4 for float32
    is_this: bool  # so that what it does can be measured
    wastes_memory: bool = False  # its allocator leaves large gaps between blocks

    @property
    def usable_bytes(self) -> int:
        """What a training may take."""
        return round(_TO_USE * self.free_bytes)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "usable_bytes": self.usable_bytes}


def this_machine() -> Machine:
    """Return what training would run on here: the first CUDA GPU, else the processor."""
    import torch

    from tunefork.models.load import compute_dtype

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, _ = compute_dtype(device)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Machine("cuda", name, total, free, dtype.itemsize, is_this=True)
    total = int(psutil.virtual_memory().total)
    name = f"this processor ({torch.get_num_threads()} threads)"
    free, gaps = free_bytes(), wastes_memory()
    return Machine("cpu", name, total, free, dtype.itemsize, is_this=True, wastes_memory=gaps)


def gpu_of(memory_bytes: int) -> Machine:
    """Return a GPU with that much memory, all of it free, that computes in bf16."""
    return Machine("cuda", "a GPU", memory_bytes, memory_bytes, 2, is_this=False)


def processor_with(memory_bytes: int) -> Machine:
    """Return a machine without a GPU, with that much memory free, that computes as this one."""
    here = this_machine()
    width = here.bytes_per_number if here.device == "cpu" else 4
    return Machine("cpu", "a processor", memory_bytes, memory_bytes, width, is_this=False)
