"""Load a base model, and run it over packed rows.

Importing this package imports torch; nothing on a lower floor may.
"""

from tunefork.models.attention import ATTENTION_NAME
from tunefork.models.base import Base, find_base, find_local_base
from tunefork.models.batch import Batch, collate, pack
from tunefork.models.fused.kernels import compile_kernels
from tunefork.models.heads import Head
from tunefork.models.layout import Layout, PackedLayout, Segment
from tunefork.models.load import (
    adapt_model,
    compute_dtype,
    hash_parameters,
    load_model,
    stored_dtype,
)
from tunefork.models.quantized import Quantization
from tunefork.models.run import loss_on, losses_on, run_on
from tunefork.models.save import saving_tensors

__all__ = [
    "ATTENTION_NAME",
    "Base",
    "Batch",
    "Head",
    "Layout",
    "PackedLayout",
    "Quantization",
    "Segment",
    "adapt_model",
    "collate",
    "compile_kernels",
    "compute_dtype",
    "find_base",
    "find_local_base",
    "hash_parameters",
    "load_model",
    "loss_on",
    "losses_on",
    "pack",
    "run_on",
    "saving_tensors",
    "stored_dtype",
]
