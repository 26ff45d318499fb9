"""The model as it is at the last few checkpoints, each as an adapter that can be opened."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunefork.core.events import CheckpointSaved, Event, Sink
from tunefork.core.files import new_folder
from tunefork.models import Base
from tunefork.workflow.derive import Derived
from tunefork.workflow.opened import write_card
from tunefork.workflow.runs import RunFolder
from tunefork.workflow.spec import Project

_KEPT = 3


@dataclass(frozen=True)
class Snapshots:
    """Where they are kept, and what a run knows of its model."""

    folder: Path
    project: Project
    run: RunFolder
    base: Base
    plan: Derived

    def sink(self, model: Any, next_sink: Sink) -> Sink:
        """Return a sink that keeps the model when a checkpoint was saved, before it passes it on.

        Args:
            model: What is trained.
            next_sink: Where events go on to.
        """

        def keep(event: Event) -> None:
            if isinstance(event, CheckpointSaved):
                self._keep(model, event.step)
            next_sink(event)

        return keep

    def _keep(self, model: Any, step: int) -> None:
        plan = self.plan
        with new_folder(self.folder / f"step-{step:06d}") as folder:
            plan.strategy.save(model, folder, self.base)
            date = self.project.spec.date
            write_card(folder, self.base, date, self.run.name, plan.quantization)
        for old in sorted(self.folder.glob("step-[0-9]*[0-9]"))[:-_KEPT]:
            shutil.rmtree(old)
