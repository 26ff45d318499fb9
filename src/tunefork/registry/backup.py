"""One archive file with the rows and every kept copy, consistent while others write; and back.

The archive is a plain tar: `registry.db`, made by SQLite's own backup, `objects/ab/cdef…`, and
first `backup.json`, which lists the hash of the database. Bases, run folders and other files that
stay where they are, are not in it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunefork import __version__
from tunefork.core.errors import RunError
from tunefork.core.files import new_file, write_json, writing
from tunefork.core.hashing import hash_file
from tunefork.registry.database import Registry, open_registry
from tunefork.registry.objects import ObjectStore
from tunefork.registry.tables import now

_MANIFEST = "backup.json"
_DATABASE = "registry.db"
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{62})")


def back_up(registry: Registry, target: Path) -> dict[str, Any]:
    """Write the archive, whole or not at all.

    Raises:
        RunError: There is a file already, or it cannot be written, or the rows lie elsewhere.
    """
    if registry.engine.dialect.name != "sqlite":
        raise RunError(
            "only a registry in SQLite can be backed up here",
            where=registry.engine.url.host,
            hint="use the database's own tools, and copy the folder `objects`",
        )
    if target.exists():
        raise RunError("there is such a file already", where=target, hint="name a new file")
    n_objects = 0
    with registry.locked(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy_database(registry.database, folder / _DATABASE)
        manifest = {
            "tunefork": __version__,
            "created": now(),
            "database": hash_file(folder / _DATABASE),
        }
        write_json(folder / _MANIFEST, manifest)
        with new_file(target) as file, tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(folder / _MANIFEST, _MANIFEST)
            archive.add(folder / _DATABASE, _DATABASE)
            for _, path in registry.objects.addresses():
                archive.add(path, f"objects/{path.parent.name}/{path.name}")
                n_objects += 1
    return {"file": str(target), "copies": n_objects, "bytes": target.stat().st_size}


def restore(source: Path, home: Path) -> dict[str, Any]:
    """Bring a backup back into a home folder that has no registry.

    Every copy is checked against its hash first; the rows come last, so that a kill on the way
    leaves no registry, and the same command begins anew.

    Raises:
        RunError: There is a registry already, or the archive is damaged.
    """
    if (home / _DATABASE).exists():
        raise RunError(
            "there is a registry already",
            where=home / _DATABASE,
            hint="set TUNEFORK_HOME to a new folder, or move this file and the `-wal` away",
        )
    with _unpacked(source, home) as folder:
        store = ObjectStore(folder / "objects")
        copies = list(store.addresses())
        for address, path in copies:
            if hash_file(path) != address:
                raise _damaged(source, f"the copy {address} is not what was kept")
        target = ObjectStore(home / "objects")
        with writing(home):
            for address, path in copies:
                target.path(address).parent.mkdir(parents=True, exist_ok=True)
                path.replace(target.path(address))
            (folder / _DATABASE).replace(home / _DATABASE)
    with open_registry(home):  # brought up to date, where an older tunefork made the backup
        pass
    return {"file": str(source), "home": str(home), "copies": len(copies)}


@contextlib.contextmanager
def _unpacked(source: Path, home: Path) -> Iterator[Path]:
    """Unpack an archive beside where it goes; only what a backup holds is taken."""
    folder = home / "restore.partial"
    with writing(home):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    try:
        try:
            with tarfile.open(source, "r:") as archive:
                for member in archive:
                    known = member.name in (_MANIFEST, _DATABASE) or _OBJECT.fullmatch(member.name)
                    if not (known and member.isfile()):
                        raise _damaged(source, f"`{member.name}` does not belong in a backup")
                    with writing(folder):
                        archive.extract(member, folder, filter="data")
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            expected = manifest["database"]
        except (OSError, tarfile.TarError, ValueError, LookupError, TypeError) as error:
            raise _damaged(source, str(error)) from error
        if not (folder / _DATABASE).is_file() or hash_file(folder / _DATABASE) != expected:
            raise _damaged(source, "the rows are not what was backed up")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_database(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as rows,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        rows.backup(copy)


def _damaged(source: Path, reason: str) -> RunError:
    hint = "use another backup"
    return RunError(f"this backup cannot be used: {reason}", where=source, hint=hint)
