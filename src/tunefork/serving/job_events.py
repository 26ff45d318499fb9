"""What happened in a job, and the model as it was at some steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from tunefork.serving.context import Again, CheckAgain, Context, Owner, Parts
from tunefork.serving.errors import RESPONSES, invalid
from tunefork.serving.job_answer import Checkpoints, Events, checkpoints_of, event_of
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.job_states import OVER
from tunefork.serving.jobs import known_job
from tunefork.serving.store import listing
from tunefork.serving.stream import DONE, STREAMED, event, streaming
from tunefork.serving.tables import JobRow

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["jobs"], responses=RESPONSES)
_LOOK_EVERY_S = 0.2
_After = Annotated[str | None, Query(max_length=100)]


@router.get("/{job_id}/events", response_model=Events, responses={200: STREAMED})
async def events(
    job_id: str,
    parts: Parts,
    owner: Owner,
    again: Again,
    after: _After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    stream: bool = False,
) -> Any:
    """Return events, the newest first; with `stream=true` all of them as they come."""
    row = await run_in_threadpool(known_job, parts, owner, job_id)
    folder = JobFolder(parts.store.jobs / row.id)
    if stream:
        return await streaming(_live(parts, row, folder, again))
    found = await run_in_threadpool(folder.events)
    return _page([event_of(each) for each in reversed(found)], after, limit)


async def _live(
    parts: Context, job: JobRow, folder: JobFolder, again: CheckAgain
) -> AsyncIterator[str]:
    place = 0
    while True:
        await again()  # a job may outlast the key
        row = await run_in_threadpool(known_job, parts, job.owner, job.id)
        found = await run_in_threadpool(_read, folder, place)
        for each, behind in found:
            place = behind
            yield event(event_of(each))
        if row.state in OVER and not found:
            break
        if parts.ending.is_set():
            return  # the client asks again, and the next server answers
        if not found:
            await asyncio.sleep(_LOOK_EVERY_S)
    yield DONE


def _read(folder: JobFolder, place: int) -> list[tuple[dict[str, Any], int]]:
    return list(folder.events_from(place))


@router.get("/{job_id}/checkpoints", response_model=Checkpoints)
def checkpoints(
    job_id: str,
    parts: Parts,
    owner: Owner,
    after: _After = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Any:
    """Return the last checkpoints, the newest first; each can be asked by its name."""
    row = known_job(parts, owner, job_id)
    found = (
        [] if row.is_model_deleted else checkpoints_of(row, JobFolder(parts.store.jobs / row.id))
    )
    return _page(found, after, limit)


def _page(found: list[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    begin = 0
    if after is not None:
        places = [place for place, each in enumerate(found) if each["id"] == after]
        if not places:
            raise invalid(f"There is nothing with the id `{after[:80]}`.", "after")
        begin = places[0] + 1
    return listing(found[begin : begin + limit], begin + limit < len(found))
