"""The report without a browser: as Markdown to paste somewhere, and as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tunefork.evaluation.costs import COST_COLUMNS, cost_rows
from tunefork.evaluation.gate import p_text, points
from tunefork.evaluation.ladder import Against
from tunefork.evaluation.report import DataFinding, Report, Setting, Sheet, SideBySide

_SHOWN_ANSWERS = 20


def report_data(report: Report) -> dict[str, Any]:
    """Return all of a report as plain data; what is no finite number is None."""
    turn, ladder = report.turn, report.ladder
    found: dict[str, Any] = {
        "title": report.title,
        "goal": report.goal,
        "verdict": report.verdict,
        "headline": report.headline,
        "meaning": report.meaning,
        "recommendation": report.recommendation or None,
        "chosen": report.chosen,
        "reasons": list(report.reasons),
        "scores": {
            name: dict(zip(("score", "low", "high"), values, strict=True))
            for name, values in report.scores.items()
        },
        "gain": report.gain,
        "p_value": report.p_value,
        "rungs": {rung.name: rung.as_dict() for rung in ladder.rungs} if ladder else None,
        "skipped": dict(ladder.skipped) if ladder else None,
        "forgetting": {name: asdict(each) for name, each in report.forgotten.items()},
        "remembered": [list(point) for point in report.remembered],
        "overfitting": {
            "turn": {**asdict(turn), "rise": turn.rise} if turn is not None else None,
            "memorised": report.memorised.as_dict() if report.memorised is not None else None,
        },
        "training": [list(point) for point in report.training],
        "validation": [list(point) for point in report.validation],
        "base_validation_loss": report.base_validation_loss,
        "best_step": report.best_step,
        "answers": [
            {**SideBySide(*row)._asdict(), "outcome": SideBySide(*row).outcome}
            for row in report.side_by_side
        ],
        "findings": [asdict(finding) for finding in report.findings],
        "sheets": [Sheet(*sheet)._asdict() for sheet in report.sheets],
        "settings": [Setting(*row)._asdict() for row in report.settings],
        "facts": dict(report.facts),
        "lineage": dict(report.lineage),
    }
    return {key: _finite(value) for key, value in found.items()}


def report_markdown(report: Report) -> str:
    """Return a report as Markdown."""
    return "\n\n".join(_parts(report)) + "\n"


def _parts(report: Report) -> Iterator[str]:
    yield f"# {_line(report.title)}"
    if report.goal:
        yield _line(report.goal)
    yield f"**{report.headline}.** {report.meaning}"
    if report.recommendation:
        yield f"**What to do.** {_line(report.recommendation)}"
    if report.reasons:
        yield "\n".join(f"- {_line(reason)}" for reason in report.reasons)
    if report.scores:
        yield "## Ways to better answers"
        yield _scores_table(report)
    if report.ladder is not None:
        yield "## What it costs: 1,000 answers"
        yield _table(COST_COLUMNS, cost_rows(report.ladder))
        if report.ladder.skipped:
            yield "\n".join(
                f"- `{_line(name)}` was not measured: {_line(why)}"
                for name, why in report.ladder.skipped
            )
    if report.forgotten:
        yield "## Forgetting"
        yield _forgetting_table(report)
    yield from _overfitting(report)
    yield from _sheets(report)
    if report.findings:
        yield "## Data"
        yield "\n".join(map(_finding, report.findings))
    if report.side_by_side:
        yield "## Answers"
        yield from _answers([SideBySide(*row) for row in report.side_by_side])
    if report.facts or report.lineage:
        yield "## Facts"
        yield _table(("what", ""), [*report.facts, *report.lineage])
    if report.settings:
        yield "## Settings"
        yield _table(("setting", "value", "from"), [tuple(row) for row in report.settings])


def _scores_table(report: Report) -> str:
    rungs = {rung.name: rung for rung in report.ladder.rungs} if report.ladder else {}
    rows = []
    for row in report.rows:
        rung = rungs.get(row.name)
        gain = _gain(rung.over_base if rung is not None else None)
        name = f"**{row.name}**" if row.is_chosen else row.name
        span = f"{points(row.low)} to {points(row.high)}"
        rows.append((name, f"{points(row.score)} %", span, gain))
    return _table(("way", "score", "probably between", "points over the base"), rows)


def _gain(against: Against | None) -> str:
    if against is None:
        return "-"
    gain, low, high = (
        points(value) for value in (against.paired.gain, against.paired.low, against.paired.high)
    )
    return f"{gain} ({low} to {high}), {p_text(against.p_value)}"


def _forgetting_table(report: Report) -> str:
    rows = [
        (
            name,
            f"{each.items:,}",
            f"{points(each.base_accuracy)} %",
            f"{points(each.tuned_accuracy)} %",
            f"{points(-each.drop)} ({points(-each.high)} to {points(-each.low)})",
        )
        for name, each in report.forgotten.items()
    ]
    return _table(("asked", "questions", "base", "tuned", "points"), rows)


def _overfitting(report: Report) -> Iterator[str]:
    turn, heart = report.turn, report.memorised
    if turn is None and heart is None:
        return
    yield "## Overfitting"
    if turn is not None:
        yield (
            f"Held-out loss was lowest at step {turn.best_step:,} ({turn.best_loss:.3f}) and rose "
            f"by {turn.rise:.0%} until step {turn.last_step:,} ({turn.last_loss:.3f})."
        )
    if heart is not None:
        yield (
            f"Of {heart.rows} training rows asked, {heart.exact} came back word for word; the "
            f"longest run of words is {heart.longest_words}."
        )


def _sheets(report: Report) -> Iterator[str]:
    for title, note, header, lines in report.sheets:
        yield f"## {_line(title)}"
        if note:
            yield _line(note)
        yield _table(header, lines)


def _finding(finding: DataFinding) -> str:
    parts = [f"- {finding.severity}: {_line(finding.message)}"]
    if finding.hint:
        parts.append(f"  → {_line(finding.hint)}")
    if finding.example:
        parts.append(f"  > {_line(finding.example)}")
    return "\n".join(parts)


def _answers(rows: Sequence[SideBySide]) -> Iterator[str]:
    order = ("lost", "won", "same")  # what went wrong first
    ranked = sorted(rows, key=lambda row: order.index(row.outcome))
    counts = ", ".join(f"{sum(row.outcome == name for row in rows)} {name}" for name in order)
    shown = ranked[:_SHOWN_ANSWERS]
    yield f"{counts}; {len(shown)} of {len(rows)} shown."
    yield _table(
        ("", "question", "base", "tuned"),
        [(row.outcome, row.question, row.base_answer, row.tuned_answer) for row in shown],
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    """Return a text on one line, with nothing in it that Markdown would take for HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
