"""The report: one self-contained page that gives the answer first, then what it rests on.

Nothing is fetched when it is opened, and nothing in it runs but the filter of its own table.
Entry point: `write_report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from markupsafe import Markup

from tunefork.core.files import write_text
from tunefork.evaluation.charts import Curves, Point, loss_chart, score_chart
from tunefork.evaluation.gate import Decision, p_text, points
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
    """One golden question with the answers of base and tuned model."""

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


def write_report(path: Path, report: Report) -> None:
    """Write the page, whole or not at all.

    Raises:
        RunError: The file cannot be written.
    """
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
    rows = [SideBySide(*row) for row in report.side_by_side]
    outcomes = [row.outcome for row in rows]
    curves = Curves(
        report.training, report.validation, report.base_validation_loss, report.best_step
    )
    sizes = (("wide", _WIDE_PIXELS), ("narrow", _NARROW_PIXELS))
    return environment.get_template("report.html.j2").render(
        report=report,
        headline=_HEADLINES[report.verdict],
        meaning=_MEANINGS[report.verdict],
        figures=_figures(report),
        score_charts=[(size, score_chart(report.scores, width)) for size, width in sizes],
        loss_charts=[(size, chart) for size, w in sizes if (chart := loss_chart(curves, w))],
        lineage_pictures=_lineage_pictures(report, sizes),
        rows=rows,
        settings=[Setting(*row) for row in report.settings],
        counts={name: outcomes.count(name) for name in ("won", "lost", "same")},
        points=points,
    )


def _lineage_pictures(
    report: Report, sizes: tuple[tuple[str, int], ...]
) -> list[tuple[str, Markup]]:
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
    return found


def _signed(share: float) -> str:
    text = points(abs(share))
    if text == "0.0":
        return "±0.0"
    return ("+" if share > 0 else "\N{MINUS SIGN}") + text
