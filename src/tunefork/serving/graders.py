"""`/v1/fine_tuning/alpha/graders`: try a grader before a job or an eval rests on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from tunefork.graders import Grade
from tunefork.serving.allowance import Allowance
from tunefork.serving.asking import Asker
from tunefork.serving.bodies import Body
from tunefork.serving.context import Allowed, Context, Parts
from tunefork.serving.errors import RESPONSES

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", tags=["graders"], responses=RESPONSES)
_ERRORS = (
    "formula_parse_error",
    "invalid_variable_error",
    "model_grader_parse_error",
    "model_grader_refusal_error",
    "model_grader_server_error",
    "other_error",
    "python_grader_runtime_error",
    "python_grader_server_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
)
_LONGEST_SAMPLE = 1_000_000


class RunBody(Body):
    """A grader, and what it marks."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    grader: dict[str, Any]
    model_sample: str = Field(max_length=_LONGEST_SAMPLE)
    item: dict[str, Any] | None = None
    # An older name for `item.reference`.
    reference_answer: str | None = None


class ValidateBody(Body):
    """A grader."""

    grader: dict[str, Any]


class RunMetadata(BaseModel):
    """How marking went."""

    name: str
    type: str
    execution_time: float
    errors: dict[str, bool | str | None]
    scores: dict[str, float]
    sampled_model_name: str | None
    token_usage: int | None


class RunAnswer(BaseModel):
    """A mark."""

    reward: float
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, Any]
    metadata: RunMetadata


class ValidateAnswer(BaseModel):
    """The grader, which is one."""

    grader: dict[str, Any]


@router.post("/run", response_model=RunAnswer)
async def run(body: RunBody, parts: Parts, allowed: Allowed) -> Any:
    """Mark one answer."""
    async with parts.programs.turns:  # a program may take all of its time: others have threads too
        return await run_in_threadpool(_marked, body, parts, allowed)


def _marked(body: RunBody, parts: Context, allowed: Allowance) -> dict[str, Any]:
    item = dict(body.item or {})
    if body.reference_answer is not None:
        item.setdefault("reference", body.reference_answer)
    grader = parts.programs.checked(body.grader, "grader").with_item(item)
    asker = Asker(parts.catalogue, allowed)
    began = time.perf_counter()
    grade = parts.programs.grade([grader], [body.model_sample], asker.answer_graders)[0]
    return {
        "reward": grade.reward,
        "sub_rewards": dict(grade.parts),
        "model_grader_token_usage_per_model": {},
        "metadata": {
            "name": str(body.grader.get("name") or body.grader["type"]),
            "type": str(body.grader["type"]),
            "execution_time": time.perf_counter() - began,
            "errors": _errors(grade),
            "scores": dict(grade.parts),
            "sampled_model_name": None,
            "token_usage": None,
        },
    }


@router.post("/validate", response_model=ValidateAnswer)
def validate(body: ValidateBody, parts: Parts) -> Any:
    """Say whether an object is a grader."""
    parts.programs.checked(body.grader, "grader")
    return {"grader": body.grader}


def _errors(grade: Grade) -> dict[str, bool | str | None]:
    found: dict[str, bool | str | None] = {name: name == grade.error for name in _ERRORS}
    found["model_grader_server_error_details"] = None
    found["python_grader_runtime_error_details"] = None
    found["python_grader_server_error_type"] = None
    for name in ("model_grader_server_error", "python_grader_runtime_error"):
        if grade.error == name:
            found[f"{name}_details"] = grade.detail
    return found
