"""Content addresses: the same bytes have the same name, on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tunefork.core.errors import InputError

_CHUNK_BYTES = 1 << 20


def hash_bytes(data: bytes) -> str:
    """Return `sha256:<hex>` of the bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file's bytes.

    Raises:
        InputError: It cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "check the path, and that you may read it"
        raise InputError(f"cannot be read: {reason}", where=path, hint=hint) from error
    return "sha256:" + digest.hexdigest()


def hash_json(value: object) -> str:
    """Return the hash of a value's canonical JSON (sorted keys, no spaces, UTF-8)."""
    return hash_bytes(canonical_json(value).encode())


def hash_folder(folder: Path) -> str:
    """Return one hash over the names and contents of all files below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_json({path.relative_to(folder).as_posix(): hash_file(path) for path in files})


def canonical_json(value: object) -> str:
    """Return the one JSON text that stands for a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
