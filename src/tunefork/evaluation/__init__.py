"""Proof: golden questions, forgetting, statistics, the gate and the report. No torch.

Models come in as what they answered; nothing here runs one. Entry points: `load_golden`,
`paired_test`, `measure_forgetting`, `decide`, `write_report`.
"""

from tunefork.evaluation.gate import Evidence, GateSettings, Verdict, decide
from tunefork.evaluation.golden import GoldenQuestion, leaked, load_golden
from tunefork.evaluation.probe import (
    Forgetting,
    ProbeItem,
    load_probe,
    measure_forgetting,
    probe_accuracy,
)
from tunefork.evaluation.report import Highlight, Report, Setting, SideBySide, write_report
from tunefork.evaluation.statistics import (
    Interval,
    LossResult,
    PairedResult,
    interval,
    mean_loss_test,
    paired_test,
    questions_needed,
)

__all__ = [
    "Evidence",
    "Forgetting",
    "GateSettings",
    "GoldenQuestion",
    "Highlight",
    "Interval",
    "LossResult",
    "PairedResult",
    "ProbeItem",
    "Report",
    "Setting",
    "SideBySide",
    "Verdict",
    "decide",
    "interval",
    "leaked",
    "load_golden",
    "load_probe",
    "mean_loss_test",
    "measure_forgetting",
    "paired_test",
    "probe_accuracy",
    "questions_needed",
    "write_report",
]
