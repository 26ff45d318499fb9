"""`gc`: drop what nothing refers to.

Rows go first, then copies: a kill leaves too much, never too little.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import CompoundSelect, delete, select, union
from sqlalchemy.orm import Session

from tunefork.core.files import writing
from tunefork.registry.database import Registry
from tunefork.registry.tables import (
    BaseModel,
    Blob,
    DatasetVersion,
    Folder,
    FolderFile,
    Model,
    Run,
)

_DAY_S = 86_400


@dataclass(frozen=True)
class Droppable:
    """What may go."""

    copies: list[tuple[str, int]]  # address and bytes
    caches: list[tuple[Path, int]]
    partial_bytes: int


def clean(registry: Registry, *, is_dry: bool, cache_days: int = 30) -> dict[str, Any]:
    """Drop copies that no row names and cached tokens unused for so many days.

    Args:
        registry: What to clean.
        is_dry: Only say what would go.
        cache_days: How long cached tokens may lie unused; they can be made again at any time.

    Returns:
        What `gc --json` prints.
    """
    with registry.locked():
        with registry.reading() as session:
            found = _find(session, registry, cache_days)
        if not is_dry:
            with registry.changing() as session:
                _drop_rows(session)
            for address, _ in found.copies:
                registry.objects.drop(address)
            registry.objects.drop_partial()
            for path, _ in found.caches:
                with writing(path):
                    shutil.rmtree(path)
    n_copies = sum(size for _, size in found.copies) + found.partial_bytes
    n_caches = sum(size for _, size in found.caches)
    return {
        "dry_run": is_dry,
        "freed_bytes": n_copies + n_caches,
        "copies": [{"hash": address, "bytes": size} for address, size in found.copies],
        "copies_bytes": n_copies,
        "caches": [{"path": str(path), "bytes": size} for path, size in found.caches],
        "caches_bytes": n_caches,
    }


def _find(session: Session, registry: Registry, cache_days: int) -> Droppable:
    used = FolderFile.folder_hash.in_(_used_folders())
    used_blobs = set(session.scalars(select(FolderFile.blob_hash).where(used)))
    kept = set(session.scalars(select(Blob.hash).where(Blob.is_kept)))
    copies = [
        (address, path.stat().st_size)
        for address, path in registry.objects.addresses()
        if address not in kept & used_blobs
    ]
    return Droppable(
        copies=copies,
        caches=_old_caches(registry.folder, cache_days),
        partial_bytes=registry.objects.partial_bytes(),
    )


def _used_folders() -> CompoundSelect[Any]:
    return union(
        select(DatasetVersion.folder_hash),
        select(BaseModel.hash),
        select(Run.folder_hash),
        select(Model.weights_hash).where(Model.weights_hash.is_not(None)),
        select(Model.index_hash).where(Model.index_hash.is_not(None)),
    )


def _drop_rows(session: Session) -> None:
    session.execute(delete(FolderFile).where(FolderFile.folder_hash.not_in(_used_folders())))
    session.execute(delete(Folder).where(Folder.hash.not_in(_used_folders())))
    session.execute(delete(Blob).where(Blob.hash.not_in(select(FolderFile.blob_hash))))


def _old_caches(home: Path, days: int) -> list[tuple[Path, int]]:
    """Return the cached tokens and unpacked models that were not touched for so long."""
    before = time.time() - days * _DAY_S
    found = []
    # A server's tenants have caches of their own.
    caches = [home / "cache", *(home / "serving" / "caches").glob("*")]
    places = [cache / name for cache in caches for name in ("tokens", "models")]
    for folder in sorted(folder for place in places for folder in place.glob("*")):
        files = [path.stat() for path in folder.glob("*")] if folder.is_dir() else []
        newest = max((file.st_mtime for file in files), default=None)
        if newest is not None and newest < before:
            found.append((folder, sum(file.st_size for file in files)))
    return found
