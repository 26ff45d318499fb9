"""Run all checks over the rows of a file, the gravest findings first."""

from __future__ import annotations

from dataclasses import replace

from tunefork.core.events import Progress, Sink, no_sink
from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import SEVERITIES, Finding
from tunefork.data.doctor.private import mask
from tunefork.data.doctor.table import CHECKS


def examine(context: Context, sink: Sink = no_sink) -> list[Finding]:
    """Return what the checks find; `sink` is told how far they are."""
    total = sum(check.cost for check in CHECKS)
    done = 0
    findings: list[Finding] = []
    for check in CHECKS:
        findings += check.run(context)
        done += check.cost
        sink(Progress("checking", done, total))
    # Findings are shown, sent and kept: what is private stays in the file.
    findings = [replace(found, example=mask(found.example)[0]) for found in findings]
    return sorted(findings, key=lambda found: SEVERITIES.index(found.severity))
