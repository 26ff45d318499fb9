"""`run`: the whole life cycle. Train, ask base and tuned the same questions, decide, report."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunefork.core.events import Sink, Warned
from tunefork.core.files import write_json
from tunefork.core.units import bytes_text, count_text, duration_text
from tunefork.data import Items, Prompts
from tunefork.evaluation import (
    Attempt,
    Evidence,
    GoldenQuestion,
    Highlight,
    LossResult,
    Report,
    SideBySide,
    Verdict,
    decide,
    leaked,
    load_golden,
    write_report,
)
from tunefork.models import find_base
from tunefork.workflow.abilities import Kept, abilities_of, compare_shown, show
from tunefork.workflow.attempts import count_attempt
from tunefork.workflow.classification import Classified, classification
from tunefork.workflow.measure import (
    Compared,
    Questions,
    compare,
    general_probe,
    held_out_summary,
    measure,
)
from tunefork.workflow.opened import open_model
from tunefork.workflow.preferences import preference_facts
from tunefork.workflow.prepare import Prepared, prepare_again, read_curve
from tunefork.workflow.proof import write_card
from tunefork.workflow.register import lineage_of, register_evaluation
from tunefork.workflow.rewards import Rewarded, rewarded
from tunefork.workflow.spec import Project
from tunefork.workflow.train import Trained, settings_of, train_project

_RUNGS = ("base", "tuned")


@dataclass(frozen=True)
class _Outcome:
    """Everything that a report is written from."""

    trained: Trained
    questions: Questions
    compared: Compared
    verdict: Verdict
    attempt: Attempt | None
    kept: Kept
    base_unchanged: bool
    classified: Classified | None
    rewarded: Rewarded | None
    seconds: float


def run_project(
    project: Project,
    *,
    out: Path | None = None,
    resume: bool = False,
    halvings: int = 0,
    snapshots: Path | None = None,
    sink: Sink,
) -> dict[str, Any]:
    """Train (see `train_project`), measure and decide; return what `run --json` prints.

    Raises:
        InputError: Spec, data, questions, base or folder cannot be used.
    """
    start = time.perf_counter()
    base = find_base(project.spec.base, relative_to=project.folder)
    base_hash = base.hash()
    golden = tuple(load_golden(project.path(project.spec.golden))) if project.spec.golden else ()
    trained = train_project(
        project, out=out, resume=resume, halvings=halvings, snapshots=snapshots, sink=sink
    )
    prepared = trained.prepared or prepare_again(trained.project, sink, trained.run.kept_out)
    n_leaked = _count_leaked(golden, prepared.asked, sink)
    opened = open_model(str(trained.run.path))
    questions = _questions(golden, prepared)
    asked = abilities_of(project, prepared, sink)
    with opened.base_chat() as chat:
        base_measured = measure(chat, questions, "base", sink)
        base_shown = show(chat, asked, "base", sink)
    tuned_measured = measure(opened.chat, questions, "tuned", sink)
    tuned_shown = show(opened.chat, asked, "tuned", sink)
    gate = project.spec.gate.settings()
    tried = count_attempt(golden, tuned_measured, gate.confidence, sink)
    confidence = tried.confidence if tried else gate.confidence
    compared = compare(base_measured, tuned_measured, questions, confidence)
    kept = compare_shown(base_shown, tuned_shown, asked, confidence)
    base_unchanged = base.hash_anew() == base_hash
    verdict = decide(
        Evidence(
            paired=compared.paired,
            forgetting=compared.forgetting,
            held_out_loss=_held_out_loss(compared, trained),
            base_unchanged=base_unchanged,
            leaked=n_leaked,
            measured_rungs=_RUNGS,
            suites=kept.suites,
            safety=kept.safety,
            canaries=kept.canaries,
            effect=trained.result.get("effect"),
            attempt=tried,
        ),
        gate,
    )
    outcome = _Outcome(
        trained,
        questions,
        compared,
        verdict,
        tried,
        kept,
        base_unchanged,
        classification(opened.chat, prepared, sink),
        rewarded(opened.chat, prepared, confidence, sink),
        time.perf_counter() - start,
    )
    report_path = trained.run.path / "report.html"
    write_report(report_path, _report(outcome, lineage_of(trained.run)))
    result = _result(outcome, report_path)
    result["card"] = write_card(trained.run, result, sink)
    write_json(trained.run.path / "evaluation.json", {**result, "answers": _answers(outcome)})
    register_evaluation(trained.run, trained.project, result, sink)
    return result


def _questions(golden: tuple[GoldenQuestion, ...], prepared: Prepared) -> Questions:
    held_out = prepared.data.validation
    items = None if held_out is None else Items.of(held_out)
    return Questions(
        golden,
        items.rows if items is not None and prepared.kind in ("chat", "text") else None,
        general_probe("sealed"),
        items if prepared.kind == "preference" else None,
    )


def _held_out_loss(compared: Compared, trained: Trained) -> LossResult | tuple[float, float] | None:
    """Return it in nats per token with its interval, or (base, tuned) as the objective has it."""
    if compared.losses is not None:
        return compared.losses
    losses = (trained.result["base_validation_loss"], trained.result["validation_loss"])
    return None if None in losses else losses


def _count_leaked(golden: tuple[GoldenQuestion, ...], asked: Prompts, sink: Sink) -> int:
    found = leaked(golden, asked)
    if found:
        places = ", ".join(str(question.where) for question in found[:5])
        # Those known when training began were kept out; these came into the file later.
        what = f"{len(found)} golden questions are also training prompts: {places}"
        sink(Warned(f"{what}; train anew to keep them out"))
    return len(found)


def _scores(outcome: _Outcome) -> dict[str, tuple[float, float, float]]:
    if not outcome.questions.golden:
        return {}
    confidence = outcome.trained.project.spec.gate.confidence
    pairs = zip(_RUNGS, (outcome.compared.base, outcome.compared.tuned), strict=True)
    found = {
        name: measured.interval(outcome.questions.golden, confidence) for name, measured in pairs
    }
    return {name: (each.mean, each.low, each.high) for name, each in found.items()}


def _result(outcome: _Outcome, report_path: Path) -> dict[str, Any]:
    compared, trained = outcome.compared, outcome.trained
    keys = ("score", "low", "high")
    return {
        "verdict": outcome.verdict.verdict,
        "reasons": list(outcome.verdict.reasons),
        "scores": {
            name: dict(zip(keys, values, strict=True)) for name, values in _scores(outcome).items()
        },
        "gain": compared.paired.gain if compared.paired else None,
        "p_value": compared.paired.p_value if compared.paired else None,
        "forgetting": compared.forgetting.drop if compared.forgetting else None,
        "general_knowledge": asdict(compared.forgetting) if compared.forgetting else None,
        **outcome.kept.as_dict(),
        "held_out": held_out_summary(compared.losses) if compared.losses else None,
        "preferences": compared.agreement.as_dict() if compared.agreement else None,
        "classification": outcome.classified.as_dict() if outcome.classified else None,
        "rewards": outcome.rewarded.as_dict() if outcome.rewarded else None,
        "attempt": asdict(outcome.attempt) if outcome.attempt else None,
        "base_unchanged": outcome.base_unchanged,
        "base_bytes": trained.run.record["base"]["bytes"],
        "adapter_bytes": trained.result["model_bytes"],
        "seconds": round(outcome.seconds, 1),
        "train_seconds": trained.result["seconds"],
        "run": trained.run.name,
        "model": trained.run.model_name,
        "path": str(trained.run.model),
        "report": str(report_path),
        "before_after": _highlight(outcome)._asdict() if outcome.questions.golden else None,
    }


def _side_by_side(outcome: _Outcome) -> tuple[SideBySide, ...]:
    base, tuned = outcome.compared.base, outcome.compared.tuned
    return tuple(
        SideBySide(
            question.text,
            question.reference,
            base.answers[index].text,
            tuned.answers[index].text,
            base.grades[index].passed,
            tuned.grades[index].passed,
            question.group,
        )
        for index, question in enumerate(outcome.questions.golden)
    )


def _answers(outcome: _Outcome) -> list[dict[str, Any]]:
    return [row._asdict() for row in _side_by_side(outcome)]


def _highlight(outcome: _Outcome) -> Highlight:
    """Pick the first question that tuning won, else the first one."""
    rows = _side_by_side(outcome)
    row = next((row for row in rows if row.outcome == "won"), rows[0])
    return Highlight(row.question, row.base_answer, row.tuned_answer)


def _report(outcome: _Outcome, origin: dict[str, Any] | None) -> Report:
    trained, compared = outcome.trained, outcome.compared
    result, record = trained.result, trained.run.record
    training, validation = read_curve(trained.run.metrics)
    preview = result["preview"]
    return Report(
        title=trained.run.name,
        goal=trained.project.spec.goal,
        verdict=outcome.verdict.verdict,
        reasons=outcome.verdict.reasons,
        scores=_scores(outcome),
        gain=compared.paired.gain if compared.paired else None,
        p_value=compared.paired.p_value if compared.paired else None,
        forgetting=compared.forgetting,
        training=tuple(training),
        validation=tuple(validation),
        base_validation_loss=result["base_validation_loss"],
        best_step=result["best_step"],
        side_by_side=_side_by_side(outcome),
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
        ),
        highlight=_highlight(outcome) if outcome.questions.golden else None,
        mask_preview=tuple(tuple((text, on) for text, on in row) for row in preview),
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
