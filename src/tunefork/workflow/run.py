"""`run`: the whole life cycle. Train, climb the ladder on the same questions, decide, report."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunefork.core.events import Sink, Warned
from tunefork.core.files import read_json, write_json
from tunefork.core.hashing import hash_folder
from tunefork.core.units import duration_text
from tunefork.data import Items, Prompts
from tunefork.evaluation import (
    Attempt,
    Evidence,
    GateSettings,
    GoldenQuestion,
    Ladder,
    LossResult,
    Memorised,
    PairedResult,
    Recommendation,
    Verdict,
    break_even,
    decide,
    leaked,
    load_golden,
    recommend,
    write_report,
)
from tunefork.models import Base, find_base
from tunefork.workflow.abilities import (
    Abilities,
    Kept,
    compare_shown,
    load_abilities,
    show,
    with_prompts,
)
from tunefork.workflow.attempts import count_attempt
from tunefork.workflow.classification import Classified, classification
from tunefork.workflow.compare_ladder import (
    TUNED_RUNGS,
    WITHOUT_TRAINING,
    Wanted,
    find_step,
    ladder_answers,
    ladder_summary,
    start_climb,
)
from tunefork.workflow.compare_register import register_rungs, register_standings
from tunefork.workflow.compare_rungs import Step, Weights
from tunefork.workflow.earned import Earned, earned
from tunefork.workflow.measure import (
    Compared,
    Questions,
    compare,
    general_probe,
    held_out_summary,
    measure,
)
from tunefork.workflow.memorised import memorised
from tunefork.workflow.opened import open_model
from tunefork.workflow.prepare import Prepared, prepare_again
from tunefork.workflow.proof import write_card
from tunefork.workflow.register import lineage_of, register_evaluation
from tunefork.workflow.remedies import offered
from tunefork.workflow.report_parts import data_findings
from tunefork.workflow.rewards import Rewarded, rewarded
from tunefork.workflow.run_report import Outcome, highlight, report_of, scores, side_by_side
from tunefork.workflow.spec import Project, Spec
from tunefork.workflow.train import Trained, train_project


def run_project(
    project: Project,
    *,
    out: Path | None = None,
    resume: bool = False,
    halvings: int = 0,
    snapshots: Path | None = None,
    wanted: Wanted | None = None,
    sink: Sink,
) -> dict[str, Any]:
    """Train (see `train_project`), measure and decide; return what `run --json` prints.

    Args:
        project: What to train and measure.
        out: The run's folder.
        resume: Go on with an interrupted run, or measure a finished one.
        halvings: How often to halve what is computed at once.
        snapshots: Where to keep the adapter of each checkpoint.
        wanted: The rungs to measure; by default all that the project has what it takes for.
        sink: Receives what happens.

    Raises:
        InputError: Spec, data, questions, base or folder cannot be used.
    """
    start = time.perf_counter()
    base = find_base(project.spec.base, relative_to=project.folder)
    base_hash = base.hash()
    golden = tuple(load_golden(project.path(project.spec.golden))) if project.spec.golden else ()
    asked = load_abilities(project, sink)
    trained = train_project(
        project, out=out, resume=resume, halvings=halvings, snapshots=snapshots, sink=sink
    )
    prepared = trained.prepared or prepare_again(trained.project, sink, trained.run.kept_out)
    n_leaked = _count_leaked(golden, prepared.asked, sink)
    gate = project.spec.gate.settings()
    asked = with_prompts(asked, trained.project)
    found = _measure(trained, prepared, golden, asked, wanted or Wanted(), sink)
    base_unchanged = base.hash_anew() == base_hash
    evidence = Evidence(
        paired=found.compared.paired,
        forgetting=found.compared.forgetting,
        held_out_loss=_held_out_loss(found, trained),
        base_unchanged=base_unchanged,
        leaked=n_leaked,
        measured_rungs=tuple(rung.name for rung in found.ladder.rungs) if found.ladder else (),
        over_cheaper=_over_cheaper(found, "tuned"),
        suites=found.kept.suites,
        safety=found.kept.safety,
        canaries=found.kept.canaries,
        effect=trained.result.get("effect"),
        attempt=found.attempt,
        is_reward=prepared.kind == "prompts",
    )
    ladder, recommendation = _recommended(found, evidence, gate, trained, sink)
    outcome = Outcome(
        trained,
        found.questions,
        found.compared,
        ladder,
        recommendation,
        decide(evidence, gate),
        found.attempt,
        found.kept,
        base_unchanged,
        found.classified,
        found.rewarded,
        found.earned,
        found.memorised,
        data_findings(trained.project, prepared, sink),
        time.perf_counter() - start,
    )
    return _written(outcome, sink)


def _written(outcome: Outcome, sink: Sink) -> dict[str, Any]:
    """Write report, card and evaluation, and return what `run --json` prints."""
    trained = outcome.trained
    report_path = trained.run.path / "report.html"
    write_report(report_path, report_of(outcome, lineage_of(trained.run)))
    result = _result(outcome, report_path)
    result["card"] = write_card(trained.run, result, sink)
    answers = [row._asdict() for row in side_by_side(outcome)]
    by_rung = ladder_answers(outcome.ladder) if outcome.ladder is not None else {}
    kept = {**result, "answers": answers, "answers_by_rung": by_rung}
    write_json(trained.run.path / "evaluation.json", kept)
    register_evaluation(trained.run, trained.project, result, sink)
    return result


@dataclass(frozen=True)
class _Found:
    """What was measured of base, tuned model and the rest of the ladder."""

    questions: Questions
    compared: Compared
    steps: tuple[Step, ...]
    ladder: Ladder | None
    attempt: Attempt | None
    kept: Kept
    classified: Classified | None
    rewarded: Rewarded | None
    earned: Earned | None
    memorised: Memorised | None


def _measure(
    trained: Trained,
    prepared: Prepared,
    golden: tuple[GoldenQuestion, ...],
    asked: Abilities,
    wanted: Wanted,
    sink: Sink,
) -> _Found:
    base, confidence = prepared.base, trained.project.spec.gate.confidence
    opened = open_model(str(trained.run.path))
    questions = _questions(golden, prepared)
    climb = start_climb(trained.project, prepared, golden, wanted, sink) if golden else None
    steps: list[Step] = []
    with opened.base_chat() as chat:
        if climb is not None:
            steps += climb.climber.on_base(chat, base)
        base_measured = measure(chat, questions, "base", sink, find_step(steps, "base"))
        base_shown = show(chat, asked, "base", sink)
    if climb is not None:
        steps += climb.climber.on_tuned(opened.chat, base, _weights(trained, base))
    tuned_measured = measure(opened.chat, questions, "tuned", sink, find_step(steps, "tuned"))
    tuned_shown = show(opened.chat, asked, "tuned", sink)
    whose = trained.project.owner
    tried = count_attempt(golden, tuned_measured, confidence, sink, whose)
    spent = tried.confidence if tried is not None else confidence
    classified = classification(opened.chat, prepared, sink)
    reward = rewarded(opened.chat, prepared, spent, sink)
    earnings = earned(opened, prepared, trained.project, spent, sink)
    by_heart = memorised(opened.chat, prepared, sink)
    if climb is not None:
        steps += climb.others()
    return _Found(
        questions,
        compare(base_measured, tuned_measured, questions, spent),
        tuple(steps),
        climb.ladder(steps, confidence) if climb is not None else None,
        tried,
        compare_shown(base_shown, tuned_shown, asked, spent),
        classified,
        reward,
        earnings,
        by_heart,
    )


def _over_cheaper(found: _Found, rung: str) -> tuple[tuple[str, PairedResult], ...]:
    """Test a tuned rung against each way without training, at the confidence that is left."""
    if found.ladder is None:
        return ()
    confidence = found.attempt.confidence if found.attempt is not None else None
    ways = [way for way in WITHOUT_TRAINING if found.ladder.find(way) is not None]
    return tuple((way, found.ladder.compare(rung, way, confidence)) for way in ways)


def _verdicts(found: _Found, evidence: Evidence, gate: GateSettings) -> dict[str, Verdict]:
    """Return the verdict of the tuned model with passages, whose weights are the tuned model's."""
    rung = "tuned+retrieval"
    if found.ladder is None or found.ladder.find(rung) is None:
        return {}
    confidence = found.attempt.confidence if found.attempt is not None else None
    paired = found.ladder.compare(rung, "base", confidence)
    over_cheaper = _over_cheaper(found, rung)
    return {rung: decide(replace(evidence, paired=paired, over_cheaper=over_cheaper), gate)}


def _recommended(
    found: _Found, evidence: Evidence, gate: GateSettings, trained: Trained, sink: Sink
) -> tuple[Ladder | None, Recommendation | None]:
    """Write the rungs down, and return them with their names and which to take."""
    if found.ladder is None:
        return None, None
    verdicts = _verdicts(found, evidence, gate)
    if found.attempt is not None:
        gate = replace(gate, confidence=found.attempt.confidence)
    barred = _ruled_out(evidence, gate)
    ladder = register_rungs(found.ladder, found.steps, trained.project, trained.run, sink)
    register_standings(ladder, trained.project, gate, verdicts, sink)
    return ladder, recommend(ladder, gate, barred)


def _weights(trained: Trained, base: Base) -> Weights:
    result, rows = trained.result, trained.run.record["rows"]["training"]
    is_whole = result["strategy"]["name"] == "full"
    return Weights(
        hash_folder(trained.run.model),
        result["model_bytes"] + (0 if is_whole else base.weight_bytes),
        f"{rows:,} examples and {duration_text(result['seconds'])} of training",
    )


def _ruled_out(evidence: Evidence, gate: GateSettings) -> dict[str, str]:
    """Return why what was tuned must not ship, whatever it scores; nothing where it may."""
    without_gain = decide(replace(evidence, paired=None, over_cheaper=()), gate)
    if without_gain.verdict != "hold":
        return {}
    # What a verdict rests on is its first reason.
    return dict.fromkeys(TUNED_RUNGS, without_gain.reasons[0])


def _remedies(outcome: Outcome) -> dict[str, str]:
    """Return what can be done, where the drop may be more than the budget."""
    gate, lost = outcome.trained.project.spec.gate, outcome.compared.forgetting
    drops = [*([lost] if lost else []), *(found for _, found in outcome.kept.suites)]
    if all(found.high <= gate.max_forgetting for found in drops):
        return {}
    return offered(Spec.model_validate(read_json(outcome.trained.run.spec_file)))


def _questions(golden: tuple[GoldenQuestion, ...], prepared: Prepared) -> Questions:
    held_out = prepared.data.validation
    items = None if held_out is None else Items.of(held_out)
    return Questions(
        golden,
        items.rows if items is not None and prepared.kind in ("chat", "text") else None,
        general_probe("sealed"),
        items if prepared.kind == "preference" else None,
    )


def _held_out_loss(found: _Found, trained: Trained) -> LossResult | tuple[float, float] | None:
    """Return it with its interval, or (base, tuned) as the objective has it."""
    if found.earned is not None:
        return found.earned.losses
    if found.compared.losses is not None:
        return found.compared.losses
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


def _result(outcome: Outcome, report_path: Path) -> dict[str, Any]:
    compared, trained = outcome.compared, outcome.trained
    keys = ("score", "low", "high")
    return {
        "verdict": outcome.verdict.verdict,
        "reasons": list(outcome.verdict.reasons),
        "scores": {
            name: dict(zip(keys, values, strict=True)) for name, values in scores(outcome).items()
        },
        **ladder_summary(outcome.ladder, outcome.recommendation),
        "break_even": _break_even(outcome),
        "gain": compared.paired.gain if compared.paired else None,
        "p_value": compared.paired.p_value if compared.paired else None,
        "forgetting": compared.forgetting.drop if compared.forgetting else None,
        "general_knowledge": asdict(compared.forgetting) if compared.forgetting else None,
        **outcome.kept.as_dict(),
        "remedies": _remedies(outcome),
        "held_out": held_out_summary(compared.losses) if compared.losses else None,
        "preferences": compared.agreement.as_dict() if compared.agreement else None,
        "classification": outcome.classified.as_dict() if outcome.classified else None,
        "rewards": outcome.rewarded.as_dict() if outcome.rewarded else None,
        "earned": outcome.earned.as_dict() if outcome.earned else None,
        "memorised": outcome.memorised.as_dict() if outcome.memorised else None,
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
        "before_after": highlight(outcome)._asdict() if outcome.questions.golden else None,
    }


def _break_even(outcome: Outcome) -> int | None:
    """Return after how many answers the training is paid back by what a prompt takes longer."""
    ladder = outcome.ladder
    prompt = ladder.find("prompt") if ladder is not None else None
    tuned = ladder.find("tuned") if ladder is not None else None
    if prompt is None or tuned is None:
        return None
    return break_even(outcome.trained.result["seconds"], prompt.climbed.cost, tuned.climbed.cost)
