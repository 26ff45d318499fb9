"""`/v1/evals`: make an eval, run it, read what was marked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import delete as remove
from sqlalchemy import select

from tunefork.serving.context import By, Context, Owner, Parts
from tunefork.serving.errors import RESPONSES, not_found
from tunefork.serving.eval_body import EvalBody, EvalRunBody
from tunefork.serving.eval_runs import read_rows
from tunefork.serving.ids import new_id, now
from tunefork.serving.store import find, listing, page
from tunefork.serving.tables import EvalItemRow, EvalRow, EvalRunRow

router = APIRouter(prefix="/v1/evals", tags=["evals"], responses=RESPONSES)
_After = Annotated[str | None, Query(max_length=100)]
_Limit = Annotated[int, Query(ge=1, le=100)]
_Order = Annotated[Literal["asc", "desc"], Query()]


class Object(BaseModel):
    """An eval, a run or an item."""

    model_config = ConfigDict(extra="allow")
    id: str
    object: Literal["eval", "eval.run", "eval.run.output_item"]
    created_at: int


class Objects(BaseModel):
    """A page of them."""

    object: Literal["list"]
    data: list[Object]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedEval(BaseModel):
    """An eval that is gone."""

    eval_id: str
    object: Literal["eval.deleted"]
    deleted: bool


def _eval(row: EvalRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "eval",
        "created_at": row.created,
        "name": row.name,
        **row.content,
    }


def _run(row: EvalRunRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "eval.run",
        "created_at": row.created,
        "eval_id": row.eval_id,
        "status": row.state,
        "error": row.error,
        **row.content,
    }


def _item(row: EvalItemRow) -> dict[str, Any]:
    return {"id": row.id, "object": "eval.run.output_item", **row.content}


@router.post("", response_model=Object, status_code=201)
def create(body: EvalBody, parts: Parts, owner: Owner) -> Any:
    """Make an eval."""
    for number, grader in enumerate(body.testing_criteria):
        parts.programs.checked(grader, f"testing_criteria.{number}")
    config = body.data_source_config.model_dump(exclude_none=True)
    schema = {"type": "object", "properties": {"item": config.pop("item_schema")}}
    row = EvalRow(
        id=new_id("eval_"),
        owner=owner,
        created=now(),
        name=body.name or "",
        content={
            "data_source_config": {"type": "custom", "schema": schema},
            "testing_criteria": body.testing_criteria,
            "metadata": body.metadata or {},
        },
    )
    with parts.store.writing() as session:
        session.add(row)
    return _eval(row)


@router.get("", response_model=Objects)
def list_evals(
    parts: Parts, owner: Owner, after: _After = None, limit: _Limit = 20, order: _Order = "asc"
) -> Any:
    """Return evals."""
    return _page(parts, owner, select(EvalRow), EvalRow, after, limit, order)


@router.get("/{eval_id}", response_model=Object)
def retrieve(eval_id: str, parts: Parts, owner: Owner) -> Any:
    """Return an eval."""
    return _eval(_known(parts, owner, EvalRow, "eval", eval_id))


@router.delete("/{eval_id}", response_model=DeletedEval)
def delete(eval_id: str, parts: Parts, owner: Owner) -> Any:
    """Remove an eval with its runs."""
    row = _known(parts, owner, EvalRow, "eval", eval_id)
    with parts.store.writing() as session:
        runs = select(EvalRunRow.id).where(EvalRunRow.eval_id == row.id)
        session.execute(remove(EvalItemRow).where(EvalItemRow.run_id.in_(runs)))
        session.execute(remove(EvalRunRow).where(EvalRunRow.eval_id == row.id))
        session.execute(remove(EvalRow).where(EvalRow.id == row.id))
    return {"eval_id": row.id, "object": "eval.deleted", "deleted": True}


@router.post("/{eval_id}/runs", response_model=Object, status_code=201)
def create_run(eval_id: str, body: EvalRunBody, parts: Parts, by: By) -> Any:
    """Run an eval; it is polled until its status is `completed` or `failed`."""
    row = _known(parts, by.owner, EvalRow, "eval", eval_id)
    rows = read_rows(body.data_source.source, parts.store, by.owner)
    run = parts.evals.begin(row, body, rows, by)
    return _run(run)


@router.get("/{eval_id}/runs", response_model=Objects)
def list_runs(
    eval_id: str,
    parts: Parts,
    owner: Owner,
    after: _After = None,
    limit: _Limit = 20,
    order: _Order = "asc",
) -> Any:
    """Return the runs of an eval."""
    known = _known(parts, owner, EvalRow, "eval", eval_id)
    query = select(EvalRunRow).where(EvalRunRow.eval_id == known.id)
    return _page(parts, owner, query, EvalRunRow, after, limit, order)


@router.get("/{eval_id}/runs/{run_id}", response_model=Object)
def retrieve_run(eval_id: str, run_id: str, parts: Parts, owner: Owner) -> Any:
    """Return a run as it is now."""
    return _run(_known_run(parts, owner, eval_id, run_id))


@router.post("/{eval_id}/runs/{run_id}", response_model=Object)
def cancel_run(eval_id: str, run_id: str, parts: Parts, owner: Owner) -> Any:
    """Stop a run."""
    row = _known_run(parts, owner, eval_id, run_id)
    parts.evals.cancel(row)
    return _run(_known_run(parts, owner, eval_id, run_id))


@router.get("/{eval_id}/runs/{run_id}/output_items", response_model=Objects)
def list_items(
    eval_id: str,
    run_id: str,
    parts: Parts,
    owner: Owner,
    after: _After = None,
    limit: _Limit = 20,
    order: _Order = "asc",
) -> Any:
    """Return what was marked."""
    row = _known_run(parts, owner, eval_id, run_id)
    query = select(EvalItemRow).where(EvalItemRow.run_id == row.id)
    return _page(parts, owner, query, EvalItemRow, after, limit, order)


@router.get("/{eval_id}/runs/{run_id}/output_items/{item_id}", response_model=Object)
def retrieve_item(eval_id: str, run_id: str, item_id: str, parts: Parts, owner: Owner) -> Any:
    """Return one answer that was marked."""
    run = _known_run(parts, owner, eval_id, run_id)
    row = _known(parts, owner, EvalItemRow, "output item", item_id)
    if row.run_id != run.id:
        raise not_found("output item", item_id)
    return _item(row)


def _known(parts: Context, owner: str, kind: type[Any], what: str, name: str) -> Any:
    with parts.store.reading() as session:
        row = find(session, kind, owner, name)
    if row is None:
        raise not_found(what, name)
    return row


def _known_run(parts: Context, owner: str, eval_id: str, run_id: str) -> EvalRunRow:
    row: EvalRunRow = _known(parts, owner, EvalRunRow, "run", run_id)
    if row.eval_id != eval_id:
        raise not_found("run", run_id)
    return row


def _page(
    parts: Context,
    owner: str,
    query: Any,  # a select of rows
    kind: type[Any],
    after: str | None,
    limit: int,
    order: str,
) -> dict[str, Any]:
    shown = {EvalRow: _eval, EvalRunRow: _run, EvalItemRow: _item}[kind]
    with parts.store.reading() as session:
        rows, more = page(
            session,
            query,
            kind,
            owner=owner,
            after=after,
            limit=limit,
            is_ascending=order == "asc",
        )
    return listing([shown(row) for row in rows], more)  # type: ignore[operator]
