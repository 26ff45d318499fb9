"""Find the folder that a run belongs in, and hold it: two processes never train in one folder.

What holds it is a lock of the operating system on the file `.lock` in the folder. It ends with
the process, however that ends, so there is nothing to clean up after a kill.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from tunefork.core.errors import RunError
from tunefork.core.files import home, read_json, writing
from tunefork.core.hashing import hash_file, hash_json
from tunefork.models import Base
from tunefork.workflow.objective_specs import function_file
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import GateSpec, Project

_LOCK = ".lock"


@contextlib.contextmanager
def claimed_run(
    project: Project, base: Base, *, out: Path | None, resume: bool
) -> Iterator[RunFolder]:
    """Give the folder to run in, held until training there ends.

    A run is known by its spec, its data files and its base. With `resume` the newest run of the
    same identity goes on; without it a new folder is taken. Where nothing is written into a new
    folder, nothing is left of it.

    Raises:
        RunError: `out` holds something else, or another process trains in the folder.
    """
    identity = identity_of(project, base)
    with claimed(identity, project.name, "runs", out=out, resume=resume) as run:
        yield run


@contextlib.contextmanager
def claimed(
    identity: str, name: str, shelf: str, *, out: Path | None, resume: bool
) -> Iterator[RunFolder]:
    """Give the folder of anything that is known by an identity; see `claimed_run`.

    Args:
        identity: Hash of what decides the result.
        name: What the folder's name begins with.
        shelf: The folder under the home folder where such folders stand.
        out: The folder, where it is given.
        resume: Go on in the newest one of this identity.
    """
    with contextlib.ExitStack() as stack:
        if out is not None:
            path = _hold_given(stack, out, identity, resume)
        else:
            path = _hold_at_home(stack, shelf, f"{name}-{identity.split(':')[1][:8]}", resume)
        yield RunFolder(path, identity)


def finished_run(project: Project, base: Base, out: Path | None) -> RunFolder | None:
    """Return the newest finished run of a project, or that in `out`; None where there is none."""
    identity = identity_of(project, base)
    name = f"{project.name}-{identity.split(':')[1][:8]}"
    at_home = itertools.takewhile(Path.exists, _numbered("runs", name))
    places = [out.resolve()] if out is not None else at_home
    runs = [RunFolder(path, identity) for path in places]
    finished = [run for run in runs if run.result is not None]
    return next((run for run in finished[::-1] if run.record.get("identity") == identity), None)


def identity_of(project: Project, base: Base) -> str:
    """Return the hash of what decides the result of a project's training."""
    spec = project.spec
    files = [*spec.data.sources, *([spec.data.validation] if spec.data.validation else [])]
    program = function_file(spec.objective)
    files += [program] if program is not None else []
    paths = [project.path(name) for name in files]
    return hash_json(
        [
            # The gate and the questions may change without making it another training run.
            # Files count by what is in them, not by where they lie.
            spec.model_dump(
                mode="json",
                exclude={
                    "goal": True,
                    "base": True,
                    "golden": True,
                    # What may be forgotten decides which weights are kept.
                    "gate": set(GateSpec.model_fields) - {"max_forgetting"},
                    "forgetting": True,
                    "prices": True,
                    "date": True,
                    "data": {"train", "validation", "documents"},
                },
            ),
            [hash_file(path) if path.is_file() else None for path in paths],
            base.hash(),
            *([] if isinstance(spec.data.train, str) else [list(spec.data.train.values())]),
        ]
    )


def _hold_given(stack: contextlib.ExitStack, out: Path, identity: str, resume: bool) -> Path:
    with writing(out):
        path = out.resolve()
        _check_given(path, identity, resume)
        stack.enter_context(held(path))
        _check_given(path, identity, resume)  # another process may have been quicker
    return path


def _check_given(out: Path, identity: str, resume: bool) -> None:
    if out.exists() and not out.is_dir():
        raise RunError("this is a file, not a folder", where=out, hint="name another folder")
    if _is_blank(out):
        return
    record = out / "record.json"
    if not record.is_file():
        raise RunError("the folder is not empty", where=out, hint="name a new folder with `--out`")
    if not resume:
        raise RunError(
            "the folder already holds a run",
            where=out,
            hint="go on with `--resume`, or name a new folder with `--out`",
        )
    if read_json(record).get("identity") != identity:
        raise RunError(
            "the folder holds a run of another spec, other data or another base",
            where=out,
            hint="undo the change to resume it, or name a new folder with `--out`",
        )


def _hold_at_home(stack: contextlib.ExitStack, shelf: str, name: str, resume: bool) -> Path:
    numbered = _numbered(shelf, name)
    if resume:
        existing = list(itertools.takewhile(Path.exists, numbered))
        begun = [path for path in existing if (path / "record.json").is_file()]
        if begun:
            stack.enter_context(held(begun[-1]))
            return begun[-1]
        return _hold_at_home(stack, shelf, name, resume=False)
    for path in numbered:
        # Who holds a blank folder is about to write into it: the next one is ours.
        if _is_blank(path):
            with contextlib.suppress(_Busy), contextlib.ExitStack() as attempt:
                attempt.enter_context(held(path))
                if _is_blank(path):
                    stack.push(attempt.pop_all())
                    return path
    raise AssertionError("numbers do not end")


def _numbered(shelf: str, name: str) -> Iterator[Path]:
    """Yield the folders that a name may have, without end."""
    folder = home() / shelf
    yield folder / name
    yield from (folder / f"{name}-{number}" for number in itertools.count(2))


class _Busy(RunError):
    """Another process trains in the folder."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, made where there is none; a finished run may be read by all at once.

    Raises:
        RunError: Another process holds it.
    """
    if (folder / "result.json").is_file():
        yield
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lock_file = folder / _LOCK
    lock = FileLock(lock_file)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise _busy(folder) from None
        lock_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
    try:
        yield
    finally:
        if _is_blank(folder) or (folder / "result.json").is_file():
            # Nobody goes on here. Removed while held: who opened it meanwhile sees that it is gone.
            with contextlib.suppress(OSError):
                lock_file.unlink()
        lock.release()
        with contextlib.suppress(OSError):  # not empty, or taken by another run
            for place in made:
                place.rmdir()


def _busy(folder: Path) -> _Busy:
    holder = ""
    with contextlib.suppress(OSError, ValueError):
        holder = f" (process {int((folder / _LOCK).read_text(encoding='utf-8'))})"
    return _Busy(
        f"another process trains in this folder{holder}",
        where=folder,
        hint="wait until it has ended or stop it, or name another folder with `--out`",
    )


def _is_blank(folder: Path) -> bool:
    """Say whether nothing of worth is there; a kill may have left a half-written file."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        path.suffix == ".partial" or path.name == _LOCK for path in folder.iterdir()
    )
