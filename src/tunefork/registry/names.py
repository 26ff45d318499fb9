"""Find what a name stands for, and names that stand for nothing yet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunefork.core.errors import DataError, InputError, ModelError, RunError, did_you_mean
from tunefork.registry.aliases import current_aliases, events_of
from tunefork.registry.tables import Dataset, DatasetVersion, Model, Run


def find_model(session: Session, name: str) -> Model:
    """Return a model by its name, an alias, or its run's folder.

    Raises:
        ModelError: There is none.
    """
    found = known_model(session, name)
    if found is None:
        raise _unknown(session, ModelError, "model", name, model_names(session))
    return found


def known_model(session: Session, name: str) -> Model | None:
    """Return a model by its name, an alias, or its run's folder; None where there is none."""
    events = events_of(session, name)
    found = session.get(Model, events[-1].model if events else name)
    if found is None and (run := _run_in(session, name)) is not None:
        found = session.get(Model, run.name)
    return found


def model_names(session: Session) -> list[str]:
    """Return the names and aliases of all models."""
    return [*session.scalars(select(Model.name)), *current_aliases(session)]


def find_run(session: Session, name: str) -> Run:
    """Return a run by its name or folder.

    Raises:
        RunError: There is none.
    """
    found = session.get(Run, name) or _run_in(session, name)
    if found is None:
        raise _unknown(session, RunError, "run", name, list(session.scalars(select(Run.name))))
    return found


def find_version(session: Session, name: str) -> DatasetVersion:
    """Return a version of a dataset by `NAME@NUMBER`, or the newest by the dataset's name or file.

    Raises:
        DataError: There is none.
    """
    place = str(Path(name).absolute())
    query = (
        select(DatasetVersion)
        .join(Dataset, Dataset.name == DatasetVersion.dataset)
        .where((Dataset.name == name) | (Dataset.path == place))
        .order_by(DatasetVersion.number.desc())
    )
    found = session.get(DatasetVersion, name) or session.scalars(query).first()
    if found is None:
        known = [
            *session.scalars(select(Dataset.name)),
            *session.scalars(select(DatasetVersion.id)),
        ]
        raise _unknown(session, DataError, "dataset", name, known)
    return found


def free_dataset_name(session: Session, name: str) -> str:
    """Return the name, or the first with a number after it that no dataset has yet."""
    return next(each for each in _numbered(name) if session.get(Dataset, each) is None)


def free_model_name(session: Session, name: str, bundle_hash: str | None = None) -> str:
    """Return the name, or the first with a number after it that no run, model or alias has yet.

    A model that is made of just the same keeps its name.
    """
    for candidate in _numbered(name):
        known = session.get(Model, candidate)
        if known is not None and known.bundle_hash == bundle_hash:
            return candidate
        is_run = session.get(Run, candidate) is not None
        if known is None and not is_run and not events_of(session, candidate):
            return candidate
    raise AssertionError("numbers do not end")


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _run_in(session: Session, name: str) -> Run | None:
    """Return the newest run in a folder."""
    given = Path(os.path.expanduser(name))  # leaves an unknown `~name` as it is
    places = {given.absolute(), given.resolve()}
    places |= {place.parent for place in places if place.name == "model"}
    query = select(Run).where(Run.path.in_(map(str, places))).order_by(Run.created.desc())
    return session.scalars(query).first()


def newest_run_of(session: Session, folder: Path) -> str | None:
    """Return the newest run of the project in a folder, by the project's name."""
    query = select(Run.name).where(Run.project == folder.resolve().name)
    return session.scalars(query.order_by(Run.created.desc())).first()


def _unknown(
    session: Session, error: type[InputError], what: str, name: str, known: Sequence[str]
) -> InputError:
    hint = did_you_mean(name, list(known)) or f"`tunefork {what}s list` shows what there is"
    if (Path(name) / "tunefork.yaml").is_file() and (run := newest_run_of(session, Path(name))):
        hint = f"this is a project; its newest run is `{run}`"
    return error(f"the registry knows no {what} `{name}`", hint=hint)
