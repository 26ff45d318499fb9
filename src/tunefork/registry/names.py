"""Find what a name stands for, and names that stand for nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
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
    events = events_of(session, name)
    found = session.get(Model, events[-1].model if events else name)
    if found is None:
        run = _run_in(session, name)
        found = session.get(Model, run.name) if run else None
    if found is None:
        raise _unknown(ModelError, "model", name, model_names(session), "models")
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
        raise _unknown(RunError, "run", name, list(session.scalars(select(Run.name))), "runs")
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
        raise _unknown(DataError, "dataset", name, known, "datasets")
    return found


def free_name(session: Session, table: type[Dataset] | type[Run], name: str) -> str:
    """Return the name, or the first with a number after it that stands for nothing yet."""
    number = 1
    while True:
        candidate = name if number == 1 else f"{name}-{number}"
        is_taken = session.get(table, candidate) is not None
        if table is Run:  # the model that it makes takes the same name
            is_taken |= session.get(Model, candidate) is not None
            is_taken |= bool(events_of(session, candidate))
        if not is_taken:
            return candidate
        number += 1


def _run_in(session: Session, name: str) -> Run | None:
    """Return the newest run in a folder."""
    place = Path(name).absolute()
    places = [str(place), str(place.parent)] if place.name == "model" else [str(place)]
    query = select(Run).where(Run.path.in_(places)).order_by(Run.created.desc())
    return session.scalars(query).first()


def _unknown(
    error: type[InputError], what: str, name: str, known: Sequence[str], command: str
) -> InputError:
    hint = did_you_mean(name, list(known))
    return error(
        f"the registry knows no {what} `{name}`",
        hint=hint or f"`tunefork {command} list` shows what there is",
    )
