"""What a run found, as the report shows it and as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tunefork.core.units import bytes_text, count_text, duration_text
from tunefork.evaluation import (
    Attempt,
    DataFinding,
    Highlight,
    Ladder,
    Memorised,
    Recommendation,
    Report,
    SideBySide,
    Verdict,
)
from tunefork.workflow.abilities import Kept
from tunefork.workflow.classification import Classified
from tunefork.workflow.earned import Earned
from tunefork.workflow.measure import Compared, Questions
from tunefork.workflow.preferences import preference_facts
from tunefork.workflow.prepare import read_curve
from tunefork.workflow.report_parts import read_remembered, suites_of
from tunefork.workflow.rewards import Rewarded
from tunefork.workflow.samples import reward_curves, shown_samples
from tunefork.workflow.train import Trained, settings_of


@dataclass(frozen=True)
class Outcome:
    """Everything that a report is written from."""

    trained: Trained
    questions: Questions
    compared: Compared
    ladder: Ladder | None  # None without golden questions
    recommendation: Recommendation | None
    verdict: Verdict
    attempt: Attempt | None
    kept: Kept
    base_unchanged: bool
    classified: Classified | None
    rewarded: Rewarded | None
    earned: Earned | None
    memorised: Memorised | None
    findings: tuple[DataFinding, ...]
    seconds: float


def scores(outcome: Outcome) -> dict[str, tuple[float, float, float]]:
    """Return (score, low, high) of each rung."""
    rungs = outcome.ladder.rungs if outcome.ladder is not None else ()
    return {each.name: (each.score.mean, each.score.low, each.score.high) for each in rungs}


def side_by_side(outcome: Outcome) -> tuple[SideBySide, ...]:
    """Return each golden question with the answers of base and tuned model."""
    base, tuned = outcome.compared.base, outcome.compared.tuned
    return tuple(
        SideBySide(
            question.text,
            question.reference,
            base.answers[index],
            tuned.answers[index],
            base.grades[index].passed,
            tuned.grades[index].passed,
            question.group,
        )
        for index, question in enumerate(outcome.questions.golden)
    )


def highlight(outcome: Outcome) -> Highlight:
    """Pick the first question that tuning won, else the first one."""
    rows = side_by_side(outcome)
    row = next((row for row in rows if row.outcome == "won"), rows[0])
    return Highlight(row.question, row.base_answer, row.tuned_answer)


def report_of(outcome: Outcome, origin: dict[str, Any] | None) -> Report:
    """Return what the page shows; `origin` is where the model came from, see `lineage_of`."""
    trained, compared = outcome.trained, outcome.compared
    result, record = trained.result, trained.run.record
    training, validation = read_curve(trained.run.metrics)
    preview = result["preview"]
    return Report(
        title=trained.run.name,
        goal=trained.project.spec.goal,
        verdict=outcome.verdict.verdict,
        reasons=outcome.verdict.reasons,
        scores=scores(outcome),
        gain=compared.paired.gain if compared.paired else None,
        p_value=compared.paired.p_value if compared.paired else None,
        forgetting=compared.forgetting,
        training=tuple(training),
        validation=tuple(validation),
        base_validation_loss=result["base_validation_loss"],
        best_step=result["best_step"],
        side_by_side=side_by_side(outcome),
        settings=settings_of(result),
        lineage=_lineage(trained),
        origin=origin,
        facts=(
            ("Base", f"{record['base']['name']}, {bytes_text(record['base']['bytes'])}"),
            ("Result", f"{result['strategy']['name']}, {bytes_text(result['model_bytes'])}"),
            ("Trainable parameters", count_text(result["trainable_parameters"])),
            ("Rows", _rows_text(record["rows"])),
            ("Training time", duration_text(result["seconds"])),
            ("Speed", f"{result['tokens_per_second']:,.0f} tokens/s"),
            ("Peak memory for training", bytes_text(result["peak_bytes"])),
            ("Whole run", duration_text(outcome.seconds)),
            *(preference_facts(compared.agreement) if compared.agreement else ()),
            *(outcome.classified.facts() if outcome.classified else ()),
            *(outcome.rewarded.facts() if outcome.rewarded else ()),
            *(outcome.earned.facts() if outcome.earned else ()),
        ),
        highlight=highlight(outcome) if outcome.questions.golden else None,
        recommendation=outcome.recommendation.reason if outcome.recommendation else "",
        ladder=outcome.ladder,
        chosen=outcome.recommendation.rung if outcome.recommendation else None,
        suites=suites_of(outcome.kept),
        remembered=read_remembered(trained.run.metrics),
        memorised=outcome.memorised,
        findings=outcome.findings,
        mask_preview=tuple(tuple((text, on) for text, on in row) for row in preview),
        curves=reward_curves(trained.run),
        samples=shown_samples(trained.run),
        sheets=(
            *(outcome.classified.sheets() if outcome.classified else ()),
            *(outcome.rewarded.sheets() if outcome.rewarded else ()),
            *(outcome.earned.sheets() if outcome.earned else ()),
        ),
    )


def _rows_text(rows: dict[str, int]) -> str:
    text = f"{rows['training']:,} trained, {rows['validation']:,} held out"
    return f"{text}, {rows['replayed']:,} general ones mixed in" if rows["replayed"] else text


def _lineage(trained: Trained) -> tuple[tuple[str, str], ...]:
    record = trained.run.record
    environment = ", ".join(f"{key} {value}" for key, value in record["environment"].items())
    return (
        ("Run", trained.run.name),
        ("Base", f"{record['base']['name']} {record['base']['hash']}"),
        ("Data", record["data_hash"]),
        ("Code", record["code_hash"]),
        ("Environment", environment),
        ("Date that templates see", str(trained.project.spec.date)),
    )
