"""`/v1/models`."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from tunefork.serving.catalogue import ServedModel
from tunefork.serving.context import Owner, Parts
from tunefork.serving.errors import RESPONSES, ApiError, not_found

router = APIRouter(prefix="/v1/models", tags=["models"], responses=RESPONSES)


class ModelObject(BaseModel):
    """A model; tuned ones say what the gate said, and more."""

    model_config = ConfigDict(extra="allow")
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    verdict: Literal["ship", "hold", "undecided", "unproven"] | None = None


class ModelList(BaseModel):
    """All models."""

    object: Literal["list"]
    data: list[ModelObject]


class Deleted(BaseModel):
    """Something that is gone."""

    id: str
    object: str
    deleted: bool


def described(model: ServedModel) -> dict[str, Any]:
    """Return a model as the API shows it."""
    shown = {"id": model.id, "object": "model", "created": model.created}
    verdict = {"verdict": model.verdict} if model.verdict is not None else {}
    return {**shown, "owned_by": model.owned_by, **verdict, **model.details}


@router.get("", response_model=ModelList, response_model_exclude_unset=True)
def list_models(parts: Parts, owner: Owner) -> Any:
    """Return every model."""
    return {"object": "list", "data": [described(each) for each in parts.catalogue.all(owner)]}


@router.get("/{model:path}", response_model=ModelObject, response_model_exclude_unset=True)
def retrieve(model: str, parts: Parts, owner: Owner) -> Any:
    """Return one model by its name, in which `/` and `:` may stand."""
    found = parts.catalogue.find(owner, model)
    if found is None:
        raise not_found("model", model, "model")
    return described(found)


@router.delete("/{model:path}", response_model=Deleted)
def delete(model: str, parts: Parts, owner: Owner) -> Any:
    """Let a fine-tuned model go: it is served no more. What the registry keeps of it stays."""
    if parts.catalogue.find(owner, model) is None:
        raise not_found("model", model, "model")
    if not parts.catalogue.tuned.delete_tuned(owner, model):
        raise ApiError(
            403, f"`{model}` was not made by a job here, so it is not removed here.", param="model"
        )
    return {"id": model, "object": "model", "deleted": True}
