"""What a report shows besides scores: what a check finds in the data, and what was lost."""

from __future__ import annotations

import json
from pathlib import Path

from tunefork.core.errors import InputError
from tunefork.core.events import Sink
from tunefork.evaluation import DataFinding, Forgetting
from tunefork.workflow.abilities import Kept
from tunefork.workflow.check import Against, check
from tunefork.workflow.prepare import Prepared
from tunefork.workflow.spec import Project

_MOST_ROWS = 20_000  # beyond, a check takes longer than people wait for a report


def data_findings(project: Project, prepared: Prepared, sink: Sink) -> tuple[DataFinding, ...]:
    """Return what a check of the training file finds; of a large file what training found.

    A check that fails costs the report nothing else: the run is measured already.
    """
    own = tuple(DataFinding("note", sentence) for sentence in prepared.findings)
    train = project.spec.data.train
    if not isinstance(train, str):  # several files of texts
        return own
    path = project.path(train)
    if not path.is_file() or len(prepared.training_rows) > _MOST_ROWS:
        return own
    golden, validation = project.spec.golden, project.spec.data.validation
    against = Against(
        validation=project.path(validation) if validation is not None else None,
        golden=project.path(golden) if golden is not None else None,
        base=None,  # training has made tokens of all rows, and told which were too long
    )
    try:
        checked = check(path, mapping=project.mapping, against=against, sink=sink)
    except InputError:
        return own
    found = (
        DataFinding(each.severity, each.message, each.count, each.hint, each.example)
        for each in checked.findings
    )
    return (*found, *own)


def suites_of(kept: Kept) -> tuple[tuple[str, Forgetting], ...]:
    """Return what tuning did to the user's suites and to refusals, by what to call it."""
    if kept.safety is None:
        return kept.suites
    return (
        *kept.suites,
        ("Refuses harmful requests", kept.safety.refused),
        ("Answers harmless ones", kept.safety.answered),
    )


def read_remembered(metrics: Path) -> tuple[tuple[int, float], ...]:
    """Return (step, change beside the base) of general questions right, from a `metrics.jsonl`."""
    points = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    return tuple((point["step"], -point["forgetting"]) for point in points if "forgetting" in point)
