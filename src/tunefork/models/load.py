"""Load a base's weights onto a device, in the number format that the device computes best."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from tunefork.core.errors import ModelError
from tunefork.models.attention import ATTENTION_NAME, AttentionSettings
from tunefork.models.base import Base
from tunefork.models.fused import fuse
from tunefork.models.layout import PackedLayout
from tunefork.models.quantized import Quantization, quantize_layers, quantized_layers
from tunefork.models.run import has_plain_head, run_on

# What transformers raises at a config or weights that it cannot use; it has no class for that.
REFUSALS = (
    SafetensorError,
    StrictDataclassError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    OSError,
    RuntimeError,
)


def compute_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """Return the number format to compute in on a device, and the reason in words."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16, "the GPU multiplies bf16"
    if device.type == "cpu" and _cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return torch.bfloat16, "the processor multiplies bf16"
    return torch.float32, f"no bf16 products on this {device.type}"


def _cpu_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return set()
    for line in path.read_text(errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def stored_dtype(base: Base) -> torch.dtype:
    """Return the number format of a base's files, as its config says it.

    Raises:
        ModelError: It is none that torch knows.
    """
    name = base.config.get("dtype") or base.config.get("torch_dtype") or "float32"
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise unusable(base, f"its config names no number format by `dtype: {name}`")
    return dtype


def load_model(
    base: Base,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    quantization: Quantization | None = None,
) -> Any:
    """Load a decoder so that it runs over packed rows, with dropout off and nothing trainable.

    Args:
        base: Where it lies.
        device: Where to put it; by default the first CUDA GPU, else the processor.
        dtype: What to compute in; by default what `compute_dtype` says.
        quantization: How to keep the linear layers inside the decoder layers: `nf4` is four bits
            (see `quantized`). By default as they are computed in.

    Returns:
        A transformers causal language model.

    Raises:
        ModelError: The folder holds no decoder that runs over packed rows, or damaged weights; or
            four bits are asked for, and `bitsandbytes` is not installed.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or compute_dtype(device)[0]
    try:
        config = AutoConfig.from_pretrained(base.folder)
        model, loading = AutoModelForCausalLM.from_pretrained(
            base.folder,
            config=config,
            # Weights in the file's own format stay in the file until they are needed.
            dtype=dtype if quantization is None else "auto",
            attn_implementation=ATTENTION_NAME,
            use_safetensors=True,
            output_loading_info=True,
        )
    except REFUSALS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise unusable(base, reason) from error
    missing = sorted(loading["missing_keys"])
    if missing:  # transformers would go on with random numbers in their place
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise unusable(base, f"the weights lack `{missing[0]}`{more}")
    if quantization is not None:
        quantize_layers(model, device)
        _take_from_file(model, dtype)
    return adapt_model(model.to(device), base)


def _take_from_file(model: Any, dtype: torch.dtype) -> None:
    """Cast the dense parameters, and copy those that need no cast, so that the file is let go."""
    quantized = {id(layer.packed) for _, layer in quantized_layers(model)}
    for parameter in model.parameters():
        if id(parameter) not in quantized:
            parameter.data = parameter.data.to(dtype, copy=True)
    model.config.dtype = dtype


def adapt_model(model: Any, base: Base) -> Any:
    """Make a transformers model run over packed rows: our attention, fused parts, all frozen.

    Raises:
        ModelError: Some layer of it does not.
    """
    model.set_attn_implementation(ATTENTION_NAME)
    model.requires_grad_(False).eval()
    fuse(model)
    _check_packing(base, model)
    return model


class _Counting(PackedLayout):
    """A layout that notes which layers ask it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__([1, 1], device)
        self.layers: set[int] = set()

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        settings: AttentionSettings,
    ) -> torch.Tensor:
        self.layers.add(settings.layer)
        return super().attend(query, key, value, settings)


@torch.no_grad()
def _check_packing(base: Base, model: Any) -> None:
    """Refuse a model in which a layer mixes tokens without asking the layout.

    Such a layer would silently let documents of a packed row see each other.
    """
    layout = _Counting(model.device)
    ids = torch.zeros(2, dtype=torch.long, device=model.device)
    try:
        logits = run_on(model, ids, layout)
    except REFUSALS as error:
        reason = str(error).strip() or type(error).__name__
        raise _unpackable(base, f"it does not run over packed rows ({reason})") from error
    n_layers = int(model.config.num_hidden_layers)
    if len(layout.layers) != n_layers:
        reason = (
            f"{n_layers - len(layout.layers)} of its {n_layers} layers mix tokens in another way"
        )
        raise _unpackable(base, reason)
    model.has_plain_head = has_plain_head(model, ids, layout, logits)


def _unpackable(base: Base, reason: str) -> ModelError:
    return ModelError(
        f"`{base.name}` is not supported yet: {reason}",
        where=base.folder,
        hint="use a transformer decoder such as Llama, Qwen, Mistral, Gemma or GPT-2",
    )


def unusable(base: Base, reason: str) -> ModelError:
    """Return the error for a base that cannot be loaded."""
    return ModelError(
        f"cannot load the base `{base.name}`: {reason}",
        where=base.folder,
        hint="it must be a complete Hugging Face decoder with undamaged safetensors",
    )


def hash_parameters(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return one hash over named tensors as they lie in memory."""
    digest = hashlib.sha256()
    for name, tensor in sorted(parameters, key=lambda pair: pair[0]):
        digest.update(name.encode())
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(raw.numpy().data)
    return "sha256:" + digest.hexdigest()
