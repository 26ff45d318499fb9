"""`/v1/embeddings`, of models that were named for it."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from tunefork.serving.bodies import Body, Name
from tunefork.serving.context import Allowed, Parts
from tunefork.serving.errors import RESPONSES, invalid, not_found
from tunefork.serving.seen import note_tokens

router = APIRouter(tags=["embeddings"], responses=RESPONSES)
_MARKS = 2


class EmbeddingBody(Body):
    """Texts to make vectors of."""

    ignored: ClassVar[frozenset[str]] = frozenset({"user"})
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {"dimensions": ()}

    model: Name
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None


class Embedding(BaseModel):
    """A vector; in base64 its numbers are little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """What it cost."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """Vectors of length 1, in the order of the texts."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


@router.post("/v1/embeddings", response_model=Embeddings)
def create(body: EmbeddingBody, parts: Parts, allowed: Allowed) -> Any:
    """Return a vector for each text."""
    model = parts.catalogue.find(allowed.caller.owner, body.model)
    if model is None:
        raise not_found("model", body.model, "model")
    if not model.can_embed:
        raise invalid(
            f"`{body.model}` makes no embeddings; models named with `--embedder` do.", "model"
        )
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not all(texts):
        raise invalid("A text is empty.", "input")
    # No text has more tokens than bytes, but for the marks at its ends.
    most = sum(len(text.encode()) + _MARKS for text in texts)
    charge, n_tokens = allowed.reserve(most, least=len(texts)), 0
    try:
        vectors, n_tokens = parts.catalogue.backend.embed(model, texts)
    finally:
        charge.settle(n_tokens)
    note_tokens(n_tokens)
    is_packed = body.encoding_format == "base64"
    return {
        "object": "list",
        "model": model.id,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if is_packed else list(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
