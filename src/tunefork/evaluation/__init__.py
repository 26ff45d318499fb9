"""Proof: golden questions, forgetting, statistics, the gate and the report. No torch.

Models come in as what they answered; nothing here runs one. Entry points: `load_golden`,
`paired_test`, `measure_forgetting`, `decide`, `build_ladder`, `recommend`, `write_report`.
"""

from tunefork.evaluation.gate import Evidence, GateSettings, Verdict, decide
from tunefork.evaluation.golden import GoldenQuestion, leaked, load_golden
from tunefork.evaluation.ladder import (
    RUNGS,
    Against,
    Climbed,
    Cost,
    Ladder,
    Prices,
    Rung,
    break_even,
    build_ladder,
)
from tunefork.evaluation.overfit import Memorised, find_memorised, find_turn
from tunefork.evaluation.power import holm
from tunefork.evaluation.probe import (
    Forgetting,
    ProbeItem,
    load_probe,
    measure_forgetting,
    probe_accuracy,
)
from tunefork.evaluation.recommend import Recommendation, fewest_groups, recommend, standing
from tunefork.evaluation.report import (
    DataFinding,
    Highlight,
    Report,
    Setting,
    SideBySide,
    write_report,
)
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
    "RUNGS",
    "Against",
    "Climbed",
    "Cost",
    "DataFinding",
    "Evidence",
    "Forgetting",
    "GateSettings",
    "GoldenQuestion",
    "Highlight",
    "Interval",
    "Ladder",
    "LossResult",
    "Memorised",
    "PairedResult",
    "Prices",
    "ProbeItem",
    "Recommendation",
    "Report",
    "Rung",
    "Setting",
    "SideBySide",
    "Verdict",
    "break_even",
    "build_ladder",
    "decide",
    "fewest_groups",
    "find_memorised",
    "find_turn",
    "holm",
    "interval",
    "leaked",
    "load_golden",
    "load_probe",
    "mean_loss_test",
    "measure_forgetting",
    "paired_test",
    "probe_accuracy",
    "questions_needed",
    "recommend",
    "standing",
    "write_report",
]
