"""What workers need on a GPU: random models made there, its memory, and what it is.

A job whose cell names a `device` has a model folder without weights: they are made on the device,
each tensor from a seed that follows from its name, so that everyone begins at the same values.

`python -m benchmarks.workers.device DEVICE` prints what the device is, and how fast it multiplies.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.workers.common import Job, Meter, Rows, versions

_SPREAD = 0.02  # standard deviation of random weights
_PRODUCT_SIZE = {"cuda": 8192, "cpu": 512}  # rows and columns of the products that are timed
_PRODUCTS = 50

# Dense bf16 products with sums in float32, in TFLOP/s, as the makers state them.
_PEAKS = {
    "B200": 2250,
    "GH200": 989,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H20": 148,
    "A100": 312,
    "A40": 149.7,
    "A30": 165,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 5090": 209.5,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
_PARTIAL = re.compile(r"\b(MIG|Laptop|D)\b")  # names of less than the whole


def is_made_there(job: Job) -> bool:
    """Say whether the weights are made on a device instead of read."""
    return "device" in job.cell


def random_model(job: Job, attention: str = "sdpa") -> Any:
    """Make the model of a job's folder, in bf16."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(job.model)
    with torch.device(job.cell["device"]):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=attention
        )
    fill_weights(model.named_parameters())
    return model


@torch.no_grad()
def fill_weights(parameters: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Fill matrices with normal numbers and vectors, which are the norms' gains, with ones."""
    for name, tensor in parameters:
        if tensor.ndim < 2:
            tensor.fill_(1)
        else:
            tensor.normal_(0, _SPREAD, generator=_generator(name, tensor.device))


@torch.no_grad()
def fill_adapter(parameters: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Fill every A as LoRA begins, under PEFT's names; B is zero already."""
    for name, tensor in parameters:
        if ".lora_A." in name:
            bound = 1 / math.sqrt(tensor.shape[1])
            generator = _generator(name.replace(".default.", "."), tensor.device)
            wide = torch.empty(tensor.shape, device=tensor.device)  # alike in every number format
            tensor.copy_(wide.uniform_(-bound, bound, generator=generator))


def _generator(name: str, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(zlib.crc32(name.encode()))


def make_meter(job: Job) -> Meter:
    """Return what measures a job."""
    return GpuMeter() if job.cell.get("device") == "cuda" else Meter()


@dataclass
class GpuMeter(Meter):
    """Waits for the GPU before it looks at the clock; the peak is the GPU's memory."""

    def before_model(self) -> None:
        """Everything is imported, and the model is about to be made."""
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats()
        super().before_model()

    def before_training(self) -> None:
        """The model is made, and the first step is about to begin."""
        torch.cuda.synchronize()
        super().before_training()

    def step_done(self, loss: float, norm: float) -> None:
        """One optimizer step is done, its weights moved."""
        torch.cuda.synchronize()
        super().step_done(loss, norm)

    def result(self, job: Job, rows: Rows) -> dict[str, Any]:
        """Return what the worker prints, the peak of loading and training together."""
        found = super().result(job, rows)
        return {
            **found,
            "host_peak_bytes": found["peak_bytes"],
            "peak_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(),
        }


def describe(device: str) -> dict[str, Any]:
    """Return the device's name, memory, peak and speed at bf16 products of square matrices."""
    found: dict[str, Any] = {"device": device, "name": "the processor", "memory_bytes": None}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found |= {"name": about.name, "memory_bytes": about.total_memory}
        found["cuda"] = torch.version.cuda
    found["product_flops"] = _product_flops(device)
    return {**found, "peak": peak(found), "versions": versions()}


def peak(device: dict[str, Any]) -> dict[str, Any]:
    """Return the FLOP/s that shares are of, and where the number comes from."""
    name = str(device["name"])
    known = [gpu for gpu in _PEAKS if re.search(rf"\b{gpu}\b", name)]
    if device["device"] == "cuda" and known and not _PARTIAL.search(name):
        return {"flops": _PEAKS[known[0]] * 1e12, "source": f"dense bf16 of {known[0]}, as stated"}
    return {"flops": device["product_flops"], "source": "measured matrix products in bf16"}


@torch.no_grad()
def _product_flops(device: str) -> float:
    """Return the FLOP/s of the faster half of some products."""
    size = _PRODUCT_SIZE[device]
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    seconds = []
    for _ in range(_PRODUCTS):
        begin = time.perf_counter()
        torch.mm(a, b, out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / sorted(seconds)[_PRODUCTS // 4]


if __name__ == "__main__":
    print(json.dumps(describe(sys.argv[1])))
