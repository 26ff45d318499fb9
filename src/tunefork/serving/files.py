"""`/v1/files`: what jobs learn from, and what they leave."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tunefork.core.files import new_file
from tunefork.serving.context import Owner, Parts
from tunefork.serving.errors import RESPONSES, ApiError, invalid, not_found
from tunefork.serving.ids import new_id, now
from tunefork.serving.limits import MEGABYTE, Limits
from tunefork.serving.models import Deleted
from tunefork.serving.store import Store, find, known_file, listing, page
from tunefork.serving.tables import FileRow

router = APIRouter(prefix="/v1/files", tags=["files"], responses=RESPONSES)
Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
_LEAST_S, _MOST_S = 3600, 2_592_000
_CHUNK = 1 << 20


class FileObject(BaseModel):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    expires_at: int | None
    status_details: None


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def described(row: FileRow) -> dict[str, Any]:
    """Return a file as the API shows it."""
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.size_bytes,
        "created_at": row.created,
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "expires_at": row.expires,
        "status_details": None,
    }


@router.post("", response_model=FileObject)
def create(
    parts: Parts,
    owner: Owner,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[str, Form()],
    anchor: Annotated[str | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[str | None, Form(alias="expires_after[seconds]")] = None,
) -> Any:
    """Take a file."""
    if purpose not in get_args(Purpose):
        raise invalid(f"`purpose` must be one of {', '.join(get_args(Purpose))}.", "purpose")
    row = FileRow(
        id=new_id("file-"),
        owner=owner,
        created=now(),
        expires=_expiry(anchor, seconds),
        filename=_filename(file.filename),
        purpose=purpose,
    )
    if purpose == "fine-tune" and not row.filename.lower().endswith(".jsonl"):
        raise invalid("Files to fine-tune on are JSON lines, named `….jsonl`.", "file")
    with parts.store.reading() as session:
        _check_room(session, owner, parts.limits)
    row.size_bytes = _keep(parts.store, row.id, file, parts.limits)
    try:
        with parts.store.writing() as session:
            _check_room(session, owner, parts.limits, row.size_bytes)
            session.add(row)
    except BaseException:
        (parts.store.files / row.id).unlink(missing_ok=True)
        raise
    return described(row)


def _expiry(anchor: str | None, seconds: str | None) -> int | None:
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise invalid("`expires_after[anchor]` must be `created_at`.", "expires_after[anchor]")
    text = seconds or ""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("It must be a whole number.", "expires_after[seconds]")
    if not _LEAST_S <= int(text) <= _MOST_S:
        raise invalid(f"It must be {_LEAST_S} to {_MOST_S}.", "expires_after[seconds]")
    return now() + int(text)


def _filename(given: str | None) -> str:
    """Return a name to show; no file is ever found by it."""
    name = (given or "").replace("\\", "/").rpartition("/")[2]
    shown = "".join(character for character in name if character.isprintable())[:200]
    return shown.encode("utf-8", "ignore").decode() or "file"


def _check_room(session: Session, owner: str, limits: Limits, more_bytes: int = 0) -> None:
    query = select(func.count(), func.coalesce(func.sum(FileRow.size_bytes), 0))
    count, size = session.execute(query.where(FileRow.owner == owner)).one()
    if count >= limits.files or size + more_bytes > limits.stored_bytes:
        raise invalid("There is no room for more files; delete some.", "file", "quota_exceeded")


def _keep(store: Store, name: str, file: UploadFile, limits: Limits) -> int:
    size = 0
    with new_file(store.files / name) as kept:
        while chunk := file.file.read(_CHUNK):
            size += len(chunk)
            if size > limits.file_bytes:
                most = limits.file_bytes / MEGABYTE
                raise ApiError(
                    413, f"A file is {most:.0f} MB at most.", param="file", code="file_too_large"
                )
            kept.write(chunk)
        if not size:
            raise invalid("The file is empty.", "file")
    return size


@router.get("", response_model=FileList)
def list_files(
    parts: Parts,
    owner: Owner,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
    purpose: Annotated[str | None, Query(max_length=100)] = None,
) -> Any:
    """Return files, the newest first."""
    drop_expired(parts.store)
    query = select(FileRow)
    if purpose is not None:
        query = query.where(FileRow.purpose == purpose)
    with parts.store.reading() as session:
        rows, has_more = page(
            session,
            query,
            FileRow,
            owner=owner,
            after=after,
            limit=limit,
            is_ascending=order == "asc",
        )
    return listing([described(row) for row in rows], has_more)


@router.get("/{file_id}", response_model=FileObject)
def retrieve(file_id: str, parts: Parts, owner: Owner) -> Any:
    """Return what is known of a file."""
    return described(known_file(parts.store, owner, file_id))


@router.get(
    "/{file_id}/content",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def content(file_id: str, parts: Parts, owner: Owner) -> Any:
    """Return the bytes of a file."""
    row = known_file(parts.store, owner, file_id)
    path = parts.store.files / row.id
    if not path.is_file():
        raise not_found("file", file_id)
    return FileResponse(path, media_type="application/octet-stream")


@router.delete("/{file_id}", response_model=Deleted)
def delete(file_id: str, parts: Parts, owner: Owner) -> Any:
    """Remove a file. Jobs that were made keep their own copy."""
    with parts.store.writing() as session:
        row = find(session, FileRow, owner, file_id)
        if row is None:
            raise not_found("file", file_id)
        session.delete(row)
    (parts.store.files / row.id).unlink(missing_ok=True)
    return {"id": row.id, "object": "file", "deleted": True}


def drop_expired(store: Store) -> None:
    """Remove files whose time has come."""
    with store.reading() as session:
        query = select(FileRow.id).where(FileRow.expires <= now())
        names = list(session.scalars(query))
    for name in names:
        with store.writing() as session:
            row = session.scalars(select(FileRow).where(FileRow.id == name)).first()
            if row is not None:
                session.delete(row)
        with contextlib.suppress(OSError):
            (store.files / name).unlink()
