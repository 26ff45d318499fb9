"""Proof: golden questions, forgetting, statistics, the gate and the report. No torch.

Models come in as what they answered; nothing here runs one. Entry points: `load_golden`,
`paired_test`, `measure_forgetting`, `decide`, `build_ladder`, `recommend`, `write_report`.
"""

from tunefork.evaluation.attempts import Attempt, answers_hash, attempt, question_hashes
from tunefork.evaluation.canaries import (
    Canaries,
    Canary,
    CanaryResult,
    alternatives,
    exposure,
    is_recited,
    load_canaries,
)
from tunefork.evaluation.evidence import Evidence, GateSettings
from tunefork.evaluation.gate import Verdict, decide
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
from tunefork.evaluation.power import expected_spread, groups_for, holm, power, spread
from tunefork.evaluation.probe import (
    Forgetting,
    ProbeItem,
    forgetting_of,
    load_probe,
    measure_forgetting,
    probe_accuracy,
)
from tunefork.evaluation.recommend import (
    Foresight,
    Recommendation,
    fewest_groups,
    foresee,
    recommend,
    standing,
)
from tunefork.evaluation.report import (
    Curve,
    DataFinding,
    Highlight,
    Report,
    Sample,
    Setting,
    Sheet,
    SideBySide,
    write_report,
)
from tunefork.evaluation.safety import Safety, SafetyItem, load_safety, measure_safety
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
    "Attempt",
    "Canaries",
    "Canary",
    "CanaryResult",
    "Climbed",
    "Cost",
    "Curve",
    "DataFinding",
    "Evidence",
    "Foresight",
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
    "Safety",
    "SafetyItem",
    "Sample",
    "Setting",
    "Sheet",
    "SideBySide",
    "Verdict",
    "alternatives",
    "answers_hash",
    "attempt",
    "break_even",
    "build_ladder",
    "decide",
    "expected_spread",
    "exposure",
    "fewest_groups",
    "find_memorised",
    "find_turn",
    "foresee",
    "forgetting_of",
    "groups_for",
    "holm",
    "interval",
    "is_recited",
    "leaked",
    "load_canaries",
    "load_golden",
    "load_probe",
    "load_safety",
    "mean_loss_test",
    "measure_forgetting",
    "measure_safety",
    "paired_test",
    "power",
    "probe_accuracy",
    "question_hashes",
    "questions_needed",
    "recommend",
    "spread",
    "standing",
    "write_report",
]
