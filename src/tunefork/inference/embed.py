"""Vectors of texts for search by meaning, from a sentence-embedding model or any other base.

Sentence-embedding models are trained so that texts about the same thing lie near each other; the
hidden states of a language model are not, and find less than words alone do: a last resort.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tunefork.core.errors import ModelError
from tunefork.models import Base
from tunefork.models.load import REFUSALS, unusable

Pooling = Literal["mean", "first"]
_BATCH = 32  # texts
_LONGEST = 512  # tokens, where neither model nor tokenizer names a limit
# How sentence-transformers names what it does after the model.
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
}
_KNOWN_STEPS = {"Transformer", "Pooling", "Normalize"}


@dataclass(frozen=True)
class TextEmbedder:
    """A model that turns texts into vectors of length 1. Build one with `load_embedder`.

    Attributes:
        name: The base's name and hash: vectors of one name are comparable.
        model: A transformers model without a head.
        tokenizer: Its transformers tokenizer.
        max_length: What is read of a text, in tokens.
        pooling: The mean over a text's last hidden states, or the state of its first token.
    """

    name: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    max_length: int
    pooling: Pooling

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text: (texts, size)."""
        cut = {"truncation": True, "max_length": self.max_length}
        rows = [self.tokenizer(text, **cut)["input_ids"] or [0] for text in texts]
        by_length = sorted(range(len(rows)), key=lambda place: len(rows[place]))  # little padding
        vectors = np.empty((len(rows), self.model.config.hidden_size), dtype=np.float32)
        for begin in range(0, len(rows), _BATCH):
            places = by_length[begin : begin + _BATCH]
            vectors[places] = self._batch([rows[place] for place in places])
        return vectors

    @torch.no_grad()
    def _batch(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(longest) < lengths[:, None]  # (rows, longest)
        device = self.model.device
        found = self.model(input_ids=ids.to(device), attention_mask=mask.long().to(device))
        states = found.last_hidden_state.float().cpu()  # (rows, longest, size)
        if self.pooling == "first":
            pooled = states[:, 0]
        else:
            pooled = (states * mask[..., None]).sum(1) / lengths[:, None]
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors


def load_embedder(base: Base, *, device: torch.device | str | None = None) -> TextEmbedder:
    """Load a model that turns texts into vectors, in float32.

    Args:
        base: Where it lies: a sentence-embedding model, whose pooling is read from its folder, or
            any other base, whose hidden states are averaged.
        device: Where to put it; by default the first CUDA GPU, else the processor.

    Raises:
        ModelError: It cannot be loaded, or does something after pooling that is not supported.
    """
    from transformers import AutoModel, AutoTokenizer

    pooling = _pooling(base)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
        model, loading = AutoModel.from_pretrained(
            base.folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except REFUSALS as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise unusable(base, reason) from error
    # Many checkpoints leave out BERT's pooler, which is not asked here.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise unusable(base, f"the weights lack `{missing[0]}`")
    model = model.requires_grad_(False).eval().to(device)
    limits = (_LONGEST, base.max_length, tokenizer.model_max_length, _sentence_limit(base))
    longest = min(limit for limit in limits if limit is not None)
    name = f"{base.name}@{base.hash().removeprefix('sha256:')[:12]}"
    return TextEmbedder(name, model, tokenizer, longest, pooling)


def _pooling(base: Base) -> Pooling:
    """Return what a sentence-transformers folder says; the mean where it is no such folder."""
    path = base.folder / "modules.json"
    if not path.is_file():
        return "mean"
    steps = _read(path)
    names = {str(step["type"]).rpartition(".")[2]: step for step in steps}
    strange = sorted(names.keys() - _KNOWN_STEPS)
    if strange or "Pooling" not in names:
        raise _unsupported(base, f"its steps are {', '.join(names)}")
    settings = _read(base.folder / str(names["Pooling"]["path"]) / "config.json")
    modes = [key for key, is_on in settings.items() if key.startswith("pooling_mode_") and is_on]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise _unsupported(base, f"it pools by {', '.join(modes) or 'nothing known'}")
    return _POOLINGS[modes[0]]


def _sentence_limit(base: Base) -> int | None:
    path = base.folder / "sentence_bert_config.json"
    if not path.is_file():
        return None
    limit = _read(path).get("max_seq_length")
    return int(limit) if limit is not None else None


def _read(path: Path) -> Any:
    """Return a JSON file of the folder; its shape is sentence-transformers' business."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"not a sentence-embedding model's settings: {error}",
            where=path,
            hint="fetch the folder again",
        ) from error


def _unsupported(base: Base, reason: str) -> ModelError:
    return ModelError(
        f"`{base.name}` is not supported for search: {reason}",
        where=base.folder,
        hint="use one that pools by mean or first token, as most sentence-embedding models do",
    )
