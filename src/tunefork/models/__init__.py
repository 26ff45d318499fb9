"""Load a base model, and run it over packed rows.

Importing this package imports torch; nothing on a lower floor may.
"""

from tunefork.models.attention import ATTENTION_NAME
from tunefork.models.base import Base, find_base
from tunefork.models.batch import Batch, collate, pack_by_tokens
from tunefork.models.layout import Layout, PackedLayout
from tunefork.models.load import compute_dtype, hash_parameters, load_model, run_on
from tunefork.models.save import saving_tensors

__all__ = [
    "ATTENTION_NAME",
    "Base",
    "Batch",
    "Layout",
    "PackedLayout",
    "collate",
    "compute_dtype",
    "find_base",
    "hash_parameters",
    "load_model",
    "pack_by_tokens",
    "run_on",
    "saving_tensors",
]
