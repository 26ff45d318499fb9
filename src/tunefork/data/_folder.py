"""Which files of a folder are read: its data files, or else its texts; the others are named."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.errors import DataError
from tunefork.data._compressed import ending

_TEXTS = (".txt", ".md")


@dataclass(frozen=True)
class Files:
    """The files of a folder, each list in order."""

    read: list[Path]
    left: list[Path]


def files_in(folder: Path, endings: Collection[str]) -> Files:
    """Sort out the files of a folder and of the folders in it; hidden ones do not count.

    Beside data files a `README.md` or `LICENSE.txt` is no row; in a folder without data files the
    texts are what there is.

    Raises:
        DataError: where none can be read.
        OSError: where the folder cannot be listed.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in _inside(path, folder))
    )
    data = {path for path in found if ending(path) in endings and ending(path) not in _TEXTS}
    read = [path for path in found if (path in data if data else ending(path) in _TEXTS)]
    if not read:
        raise DataError(
            "the folder holds no file that can be read",
            where=folder,
            hint=f"these are read: {', '.join(endings)}, also packed as .gz or .zst",
        )
    return Files(read, [path for path in found if path not in set(read)])


def _inside(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts
