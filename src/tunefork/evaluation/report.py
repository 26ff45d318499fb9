"""The report: one self-contained page that gives the answer first, then what it rests on.

Nothing is fetched when it is opened, and nothing in it runs but the filter of its own table. The
same as Markdown and as data lies beside it. Entry point: `write_report`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from markupsafe import Markup, escape

from tunefork.core.files import write_json, write_text
from tunefork.evaluation.bars import ScoreRow, change_chart, score_chart
from tunefork.evaluation.charts import (
    Curves,
    Point,
    change_over_steps,
    loss_chart,
    metric_chart,
)
from tunefork.evaluation.costs import COST_COLUMNS, cost_rows
from tunefork.evaluation.gate import Decision, p_text, points
from tunefork.evaluation.ladder import BASE, Ladder
from tunefork.evaluation.overfit import Memorised, Turn, find_turn
from tunefork.evaluation.probe import Forgetting

_WIDE_PIXELS, _NARROW_PIXELS = 760, 340
_HEADLINES: dict[Decision, str] = {
    "ship": "Ship it",
    "hold": "Do not ship",
    "undecided": "Undecided",
}
_MEANINGS: dict[Decision, str] = {
    "ship": "The tuned model is better than its base, and forgot no more than allowed.",
    "hold": "The tuned model does not meet the gate.",
    "undecided": "The evidence neither shows nor rules out that the tuned model is good enough.",
}


class SideBySide(NamedTuple):
    """One golden question with the answers of base and tuned model, or whatever else is shown."""

    question: str
    reference: str | None
    base_answer: str
    tuned_answer: str
    base_passed: bool
    tuned_passed: bool
    group: str

    @property
    def outcome(self) -> Literal["won", "lost", "same"]:
        """Whether tuning won the question, lost it, or left its mark as it was."""
        if self.base_passed == self.tuned_passed:
            return "same"
        return "won" if self.tuned_passed else "lost"


@dataclass(frozen=True)
class DataFinding:
    """One thing that a check found in the training data."""

    severity: Literal["error", "warning", "note"]
    message: str
    count: int = 0
    hint: str = ""
    example: str = ""


class Setting(NamedTuple):
    """One setting of the run and where its value comes from."""

    key: str
    value: str
    origin: Literal["given", "derived", "inherited"]


class Highlight(NamedTuple):
    """The example that stands on top: a question, the answer before, the answer after."""

    question: str
    before: str
    after: str


class Curve(NamedTuple):
    """One number over the steps of a run that learned from rewards."""

    name: str
    training: tuple[Point, ...]
    held_out: tuple[Point, ...] = ()


class Sample(NamedTuple):
    """An answer that was drawn while the model learned from rewards."""

    step: int
    prompt: str
    answer: str
    reward: float
    advantage: float
    passed: bool


class Sheet(NamedTuple):
    """A table with a heading of its own; the first column names the rows."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Report:
    """All that the page shows, as plain data.

    Attributes:
        title: Name of the run.
        goal: What good looks like, in the user's words.
        verdict: Of the gate.
        reasons: Of the verdict, as sentences.
        scores: For each rung its (score, low, high), from 0 to 1.
        gain: Mean score of tuned minus base; None without golden questions.
        p_value: Of the gain.
        forgetting: On the general probe; None where it was not measured.
        training: (step, loss) in nats per token.
        validation: (step, loss) on held-out rows.
        base_validation_loss: Of the base on the same rows.
        best_step: Whose weights are the result.
        side_by_side: Answers of both models.
        settings: Of the run.
        lineage: (name, value): hashes of base, data, code; versions.
        origin: The same as a picture: what `registry.lineage` returns; None to draw none.
        facts: (name, value) with units, such as `("Adapter size", "1.2 MB")`.
        highlight: The example on top.
        mask_preview: Rows as the trainer sees them: (text, trained) of each token.
        recommendation: What to do, in plain words.
        ladder: Every way that was measured, with its cost; `scores` are its scores then.
        chosen: The rung that is recommended.
        suites: Forgetting on each suite, by its name; with `forgetting` where that is not among.
        remembered: (step, change of the share of general questions right, beside the base).
        memorised: How much of the training rows the model knows by heart.
        findings: What was found in the training data.
        curves: What rewards and answers were like, where it learned from rewards.
        samples: Some of those answers.
        sheets: What else there is to tell of what was learned, as tables.
    """

    title: str
    goal: str
    verdict: Decision
    reasons: tuple[str, ...]
    scores: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    gain: float | None = None
    p_value: float | None = None
    forgetting: Forgetting | None = None
    training: tuple[Point, ...] = ()
    validation: tuple[Point, ...] = ()
    base_validation_loss: float | None = None
    best_step: int | None = None
    side_by_side: tuple[SideBySide, ...] = ()
    settings: tuple[Setting, ...] = ()
    lineage: tuple[tuple[str, str], ...] = ()
    origin: Mapping[str, Any] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    highlight: Highlight | None = None
    mask_preview: tuple[tuple[tuple[str, bool], ...], ...] = ()
    recommendation: str = ""
    ladder: Ladder | None = None
    chosen: str | None = None
    suites: tuple[tuple[str, Forgetting], ...] = ()
    remembered: tuple[Point, ...] = ()
    memorised: Memorised | None = None
    findings: tuple[DataFinding, ...] = ()
    curves: tuple[Curve, ...] = ()
    samples: tuple[Sample, ...] = ()
    sheets: tuple[Sheet, ...] = ()

    @property
    def headline(self) -> str:
        """The verdict in two words."""
        return _HEADLINES[self.verdict]

    @property
    def meaning(self) -> str:
        """The verdict as a sentence."""
        return _MEANINGS[self.verdict]

    @property
    def turn(self) -> Turn | None:
        """Where held-out loss turned."""
        return find_turn(self.training, self.validation)

    @property
    def forgotten(self) -> dict[str, Forgetting]:
        """What was forgotten, by what was asked."""
        general = {"General knowledge": self.forgetting} if self.forgetting else {}
        return {**general, **dict(self.suites)}

    @property
    def rows(self) -> list[ScoreRow]:
        """The score of each way that was measured, the least effort first."""
        chosen = self.chosen if self.ladder is not None else "tuned"
        notes = (
            {rung.name: rung.climbed.effort for rung in self.ladder.rungs} if self.ladder else {}
        )
        return [
            ScoreRow(name, *values, notes.get(name, ""), name == chosen)
            for name, values in self.scores.items()
        ]


def write_report(path: Path, report: Report) -> None:
    """Write the page, and the same as Markdown and JSON beside it; each whole or not at all.

    Raises:
        RunError: A file cannot be written.
    """
    from tunefork.evaluation.report_text import report_data, report_markdown

    write_json(path.with_suffix(".json"), report_data(report))
    write_text(path.with_suffix(".md"), report_markdown(report))
    write_text(path, render_report(report))


def render_report(report: Report) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = _coded
    rows = [SideBySide(*row) for row in report.side_by_side]
    outcomes = [row.outcome for row in rows]
    sizes = (("wide", _WIDE_PIXELS), ("narrow", _NARROW_PIXELS))
    return environment.get_template("report.html.j2").render(
        report=report,
        figures=_figures(report),
        charts=_charts(report, sizes),
        curve_charts=_curve_charts(report.curves),
        lineage_pictures=_lineage_pictures(report, sizes),
        cost_columns=COST_COLUMNS,
        costs=cost_rows(report.ladder) if report.ladder is not None else [],
        rows=rows,
        settings=[Setting(*row) for row in report.settings],
        counts={name: outcomes.count(name) for name in ("won", "lost", "same")},
        points=points,
        p_text=p_text,
    )


def _coded(text: str) -> Markup:
    """Return a sentence as HTML, what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one is alone
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts)
    )


_Sizes = tuple[tuple[str, int], ...]
_Charts = list[tuple[str, Markup]]


def _charts(report: Report, sizes: _Sizes) -> dict[str, _Charts]:
    """Return each chart for wide and for narrow screens; none where there is nothing to draw."""
    curves = Curves(
        report.training,
        report.validation,
        report.base_validation_loss,
        report.best_step,
        report.turn,
    )
    base = report.scores.get(BASE)
    across = base[0] if base is not None else None
    drawn: dict[str, Callable[[int], Markup | None]] = {
        "scores": lambda width: score_chart(report.rows, width, across) if report.rows else None,
        "losses": lambda width: loss_chart(curves, width),
        "changes": lambda width: change_chart(report.forgotten, width),
        "remembered": lambda width: change_over_steps(
            report.remembered, width, "General knowledge"
        ),
    }
    return {
        name: [(size, chart) for size, width in sizes if (chart := draw(width)) is not None]
        for name, draw in drawn.items()
    }


def _curve_charts(curves: tuple[Curve, ...]) -> _Charts:
    """Return each curve's name and picture, small enough for any screen."""
    return [
        (curve.name, chart) for curve in curves if (chart := metric_chart(*curve, _NARROW_PIXELS))
    ]


def _lineage_pictures(report: Report, sizes: _Sizes) -> _Charts:
    """Return the picture of the model's origin for each size; none where there is no origin."""
    if report.origin is None:
        return []
    from tunefork.registry import lineage_picture

    # What the registry said before this report: its last word on the model is of another day.
    origin = {**report.origin, "verdict": report.verdict, "evaluation": None, "aliases": []}
    return [(size, Markup(lineage_picture(origin, width))) for size, width in sizes]


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """Return the key figures: (name, value, note)."""
    found = []
    if report.gain is not None:
        note = p_text(report.p_value) if report.p_value is not None else ""
        found.append(("Gain over the base", f"{_signed(report.gain)} points", note))
    for name in ("base", "tuned"):
        if name in report.scores:
            score, low, high = report.scores[name]
            note = f"{points(low)} to {points(high)} %"
            found.append((f"{name.capitalize()} score", f"{points(score)} %", note))
    if report.forgetting is not None:
        note = f"of {report.forgetting.items:,} general questions"
        found.append(("General knowledge", f"{_signed(-report.forgetting.drop)} points", note))
    if report.memorised is not None:
        note = f"{report.memorised.exact} of {report.memorised.rows} training rows asked"
        found.append(("Learned by heart", f"{points(report.memorised.share)} %", note))
    return found


def _signed(share: float) -> str:
    text = points(abs(share))
    if text == "0.0":
        return "±0.0"
    return ("+" if share > 0 else "\N{MINUS SIGN}") + text
