"""The models that jobs made, by name: `ft:BASE:ORG:SUFFIX:ID`, and `…:ckpt-step-N`."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace

from sqlalchemy import select

from tunefork.serving.catalogue import Backend, ServedModel, Verdict
from tunefork.serving.job_folder import JobFolder
from tunefork.serving.store import Store
from tunefork.serving.tables import JobRow

_CHECKPOINT = re.compile(r"(?P<name>.+):ckpt-step-(?P<step>[0-9]{1,9})", re.DOTALL)


@dataclass(frozen=True)
class JobModels:
    """Models of succeeded jobs, and checkpoints of any."""

    store: Store
    backend: Backend

    def tuned_models(self, owner: str) -> list[ServedModel]:
        """Return an owner's models, checkpoints not among them."""
        query = select(JobRow).where(
            JobRow.owner == owner, JobRow.state == "succeeded", JobRow.is_model_deleted.is_(False)
        )
        with self.store.reading() as session:
            rows = list(session.scalars(query.order_by(JobRow.number)))
        return [self._served(row) for row in rows]

    def find_tuned(self, owner: str, name: str) -> ServedModel | None:
        """Return an owner's model or checkpoint."""
        row = self._row(owner, name)
        if row is not None:
            return self._served(row) if row.state == "succeeded" else None
        found = _CHECKPOINT.fullmatch(name)
        row = self._row(owner, found["name"]) if found is not None else None
        if row is None or found is None:
            return None
        folder = JobFolder(self.store.jobs / row.id).snapshots / f"step-{int(found['step']):06d}"
        if not folder.is_dir():
            return None
        return self._marked(self.backend.tuned(name, folder, row.created, "unproven"), row)

    def delete_tuned(self, owner: str, name: str) -> bool:
        """Serve an owner's model no more; its checkpoints are removed."""
        row = self._row(owner, name)
        if row is None or row.state != "succeeded":
            return False
        model = self._served(row)
        with self.store.writing() as session:
            session.get_one(JobRow, row.number).is_model_deleted = True
        self.backend.forget(model)
        shutil.rmtree(JobFolder(self.store.jobs / row.id).snapshots, ignore_errors=True)
        return True

    def _row(self, owner: str, name: str) -> JobRow | None:
        query = select(JobRow).where(
            JobRow.owner == owner, JobRow.tuned == name, JobRow.is_model_deleted.is_(False)
        )
        with self.store.reading() as session:
            return session.scalars(query).first()

    def _served(self, row: JobRow) -> ServedModel:
        assert row.tuned is not None, "named when it was made"
        folder = JobFolder(self.store.jobs / row.id).run / "model"
        verdict: Verdict = (row.result or {}).get("verdict") or "unproven"
        created = row.finished or row.created
        return self._marked(self.backend.tuned(row.tuned, folder, created, verdict), row)

    def _marked(self, model: ServedModel, row: JobRow) -> ServedModel:
        assert row.tuned is not None, "named when it was made"
        organisation = row.tuned.rsplit(":", 3)[1]
        details = {**model.details, "job": row.id, "base": row.model}
        return replace(model, owned_by=organisation, details=details)
