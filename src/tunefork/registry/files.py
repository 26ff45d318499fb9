"""Take files into the registry: a copy of each where it is small enough, else only its hash.

What replaying a run needs is copied, so that the user's own files may change or go. A file beyond
`COPY_LIMIT_BYTES`, and every file of a base, stays where it is and is known by path and hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.core.errors import RunError
from tunefork.core.hashing import hash_file, hash_json
from tunefork.registry.objects import ObjectStore
from tunefork.registry.tables import Blob, Folder, FolderFile, Row, now

COPY_LIMIT_BYTES = 256 * 10**6


@dataclass(frozen=True)
class Seen:
    """A file that was looked at; `hash` is None where it is known once the file is copied."""

    path: Path
    size_bytes: int
    hash: str | None


def look_at(files: Mapping[str, Path], *, keep: bool) -> dict[str, Seen]:
    """Look at files before the registry is held: large ones take long to hash.

    Args:
        files: Where each lies, by its name.
        keep: Copy those that are small enough.
    """
    found = {}
    for name, path in files.items():
        size_bytes = path.stat().st_size
        is_copied = keep and size_bytes <= COPY_LIMIT_BYTES
        found[name] = Seen(path.absolute(), size_bytes, None if is_copied else hash_file(path))
    return found


def files_below(path: Path) -> dict[str, Path]:
    """Return a file by its name, or all files of a folder by their place in it."""
    if path.is_file():
        return {path.name: path}
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return {each.relative_to(path).as_posix(): each for each in files}


def add_folder(session: Session, objects: ObjectStore, seen: Mapping[str, Seen]) -> str:
    """Take files in, and return the hash of the folder that they make."""
    hashes = {}
    for name, file in seen.items():
        hashes[name] = file.hash or objects.put(file.path)
        _add_blob(session, hashes[name], file)
    address = hash_json(hashes)
    if session.get(Folder, address) is None:
        insert(session, Folder(hash=address, created=now()))
    for name, file in seen.items():
        known = session.get(FolderFile, (address, name))
        if known is None:
            row = FolderFile(folder_hash=address, name=name, blob_hash=hashes[name])
            row.path = str(file.path)
            insert(session, row)
        else:
            known.path = str(file.path)  # where it was last seen
    return address


def _add_blob(session: Session, address: str, file: Seen) -> None:
    is_kept = file.hash is None
    known = session.get(Blob, address)
    if known is None:
        insert(session, Blob(hash=address, size_bytes=file.size_bytes, is_kept=is_kept))
    elif is_kept:
        known.is_kept = True


def files_of(session: Session, folder_hash: str) -> list[tuple[FolderFile, Blob]]:
    """Return the files of a folder, in the order of their names."""
    query = (
        select(FolderFile, Blob)
        .join(Blob, Blob.hash == FolderFile.blob_hash)
        .where(FolderFile.folder_hash == folder_hash)
        .order_by(FolderFile.name)
    )
    return [(file, blob) for file, blob in session.execute(query)]


def write_folder(
    session: Session, objects: ObjectStore, folder_hash: str, target: Path
) -> dict[str, Path]:
    """Write a folder's kept files below `target`; give those that were not copied where they lie.

    Raises:
        RunError: One of them is gone or altered.
    """
    places = {}
    for file, blob in files_of(session, folder_hash):
        if blob.is_kept:
            places[file.name] = target / file.name
            objects.copy_to(blob.hash, places[file.name])
            continue
        places[file.name] = Path(file.path)
        if not places[file.name].is_file() or hash_file(places[file.name]) != blob.hash:
            raise RunError(
                "the file is gone or altered, and it was too large to keep a copy of",
                where=file.path,
                hint=f"bring back the file with the hash {blob.hash}",
            )
    return places


def insert(session: Session, row: Row) -> None:
    """Add a row at once, so that those that name it can follow."""
    session.add(row)
    session.flush()
