"""Charts of scores: one row for each rung or suite, a point with its interval. See `charts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from tunefork.evaluation.charts import NARROW_PIXELS, Scale, nice_scale, svg, tick_texts
from tunefork.evaluation.probe import Forgetting

_VALUE_WIDTH = 62  # pixels, right of the plot
_SHARES = Scale(0, 1, 0, 1, (0, 0.25, 0.5, 0.75, 1))
_LETTER_PIXELS = 8.2  # of a label, on average and rounded up


class ScoreRow(NamedTuple):
    """One row: a score from 0 to 1 with its interval.

    `note` stands behind the name in the spoken text; `is_chosen` makes the row stand out.
    """

    name: str
    score: float
    low: float
    high: float
    note: str = ""
    is_chosen: bool = False


def score_chart(rows: Sequence[ScoreRow], width: int, across: float | None = None) -> Markup:
    """Draw each score as a dot on its interval.

    Args:
        rows: From top to bottom.
        width: In pixels.
        across: A score to draw a line at, such as the base's.
    """
    is_narrow = width < NARROW_PIXELS
    left = _left([row.name for row in rows], width)
    height_of_row, top = (56, 4) if is_narrow else (44, 8)
    height = top + height_of_row * len(rows) + 30
    x = Scale(0, 1, left, width - _VALUE_WIDTH, _SHARES.ticks)
    parts = _grid(x, top, height, [f"{100 * tick:.0f} %" for tick in x.ticks])
    if across is not None:
        parts.append(
            f'<line class="across" x1="{x(across):.1f}" x2="{x(across):.1f}" '
            f'y1="{top}" y2="{height - 30}"/>'
        )
    for index, row in enumerate(rows):
        y = top + height_of_row * (index + 0.5) + (10 if is_narrow else 0)
        label_y = y - 16 if is_narrow else y + 5
        kind = "tuned" if row.is_chosen else "other"
        parts.append(
            f'<g class="{kind}"><title>{escape(_spoken(row))}</title>'
            f'<text class="label" x="0" y="{label_y:.1f}">{escape(row.name)}</text>'
            f'<line class="span" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{x(row.score):.1f}" cy="{y}" r="6.5"/>'
            f'<text class="value" x="{width}" y="{y + 5:.1f}" text-anchor="end">'
            f"{100 * row.score:.1f} %</text></g>"
        )
    title = "Score on the golden questions: " + "; ".join(map(_spoken, rows))
    return svg(width, height, title, parts)


def change_chart(suites: Mapping[str, Forgetting], width: int) -> Markup | None:
    """Draw by how many points each suite changed, with its interval; None where there is none."""
    if not suites:
        return None
    is_narrow = width < NARROW_PIXELS
    left = _left(list(suites), width)
    height_of_row, top = (56, 4) if is_narrow else (40, 8)
    height = top + height_of_row * len(suites) + 30
    ends = [end for each in suites.values() for end in (-each.low, -each.high, -each.drop)]
    plain = nice_scale(100 * min(0, *ends), 100 * max(0, *ends), 0, 1, 4 if is_narrow else 6)
    x = Scale(plain.low, plain.high, left, width - _VALUE_WIDTH, plain.ticks)
    parts = _grid(x, top, height, tick_texts(x.ticks))
    parts.append(
        f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="{top}" y2="{height - 30}"/>'
    )
    spoken = []
    for index, (name, each) in enumerate(suites.items()):
        y = top + height_of_row * (index + 0.5) + (10 if is_narrow else 0)
        change, low, high = -100 * each.drop, -100 * each.high, -100 * each.low
        begin, end = sorted((x(0), x(change)))
        kind = "worse" if change < 0 else "better"
        spoken.append(f"{name} {change:+.1f} points ({low:+.1f} to {high:+.1f})")
        parts.append(
            f'<g class="{kind}"><title>{escape(spoken[-1])}</title>'
            f'<text class="label" x="0" y="{(y - 16 if is_narrow else y + 5):.1f}">'
            f"{escape(name)}</text>"
            f'<rect class="bar" x="{begin:.1f}" width="{end - begin:.1f}" y="{y - 8}" height="16"/>'
            f'<line class="whisker" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"/>'
            f'<text class="value" x="{width}" y="{y + 5:.1f}" text-anchor="end">'
            f"{_signed(change)}</text></g>"
        )
    return svg(width, height, "Change of accuracy in points: " + "; ".join(spoken), parts)


def _left(names: Sequence[str], width: int) -> int:
    """Return where the plot begins: on a phone a name stands above its row, else before it."""
    if width < NARROW_PIXELS:
        return 8
    return min(round(max(map(len, names)) * _LETTER_PIXELS) + 16, width // 2)


def _grid(x: Scale, top: float, height: float, texts: Sequence[str]) -> list[str]:
    return [
        f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{height - 30}"/>'
        f'<text class="tick" x="{x(tick):.1f}" y="{height - 12}" text-anchor="middle">{text}</text>'
        for tick, text in zip(x.ticks, texts, strict=True)
    ]


def _spoken(row: ScoreRow) -> str:
    text = f"{row.name} {100 * row.score:.1f} % ({100 * row.low:.1f} to {100 * row.high:.1f})"
    return f"{text}, {row.note}" if row.note else text


def _signed(value: float) -> str:
    text = f"{abs(value):.1f}"
    if text == "0.0":
        return "±0.0"
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text
