"""Charts of curves: plain SVG text, no library, colours left to the page's style sheet.

Each chart takes its width, so that a page can hold one for wide screens and one for phones
with letters of the same size in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tunefork.evaluation.overfit import Turn

Point = tuple[int, float]

_MOST_POINTS = 240
NARROW_PIXELS = 480
_TURN_LABEL_PIXELS = 190


@dataclass(frozen=True)
class Curves:
    """Losses over the steps of a run, in nats per token; finite values only are drawn."""

    training: Sequence[Point]
    validation: Sequence[Point]
    base_validation_loss: float | None
    best_step: int | None
    turn: Turn | None = None


@dataclass(frozen=True)
class Scale:
    """Maps values to pixels, with its ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def loss_chart(curves: Curves, width: int) -> Markup | None:
    """Draw the losses with axes and a mark at the best step; None where there are no points."""
    training = _thinned(_finite(curves.training))
    validation = _finite(curves.validation)
    steps = [step for step, _ in (*training, *validation)]
    losses = [loss for _, loss in (*training, *validation)]
    if not steps:
        return None
    base = curves.base_validation_loss
    if base is not None and math.isfinite(base):
        losses.append(base)
    else:
        base = None
    is_narrow = width < NARROW_PIXELS
    height = 260 if is_narrow else 320
    x = nice_scale(min(0, *steps), max(steps), 44, width - 12, 4 if is_narrow else 8)
    y = nice_scale(min(losses), max(losses), height - 44, 14, 5)
    parts = [*_axes(x, y, width, height)]
    if base is not None:
        parts.append(
            f'<line class="base" x1="{x.start}" x2="{x.end}" '
            f'y1="{y(base):.1f}" y2="{y(base):.1f}"/>'
        )
    parts += [*_line(training, "training", x, y), *_line(validation, "validation", x, y)]
    parts += [
        f'<circle class="point" cx="{x(step):.1f}" cy="{y(loss):.1f}" r="3"/>'
        for step, loss in validation
    ]
    parts = [*_after_turn(curves.turn, x, y, is_narrow=is_narrow), *parts]
    parts += _best(curves.best_step, validation, x, y)
    return svg(width, height, _loss_title(curves, validation), parts)


def change_over_steps(points: Sequence[Point], width: int, title: str) -> Markup | None:
    """Draw how a share changed over the steps, in points; None for fewer than two of them."""
    if len(points) < 2:
        return None
    is_narrow = width < NARROW_PIXELS
    height = 200 if is_narrow else 220
    places = [(step, 100 * change) for step, change in points]
    steps, changes = [step for step, _ in places], [change for _, change in places]
    x = nice_scale(min(0, *steps), max(steps), 52, width - 12, 4 if is_narrow else 8)
    y = nice_scale(min(0.0, *changes), max(0.0, *changes), height - 44, 14, 4)
    dots = [
        f'<circle class="point" cx="{x(step):.1f}" cy="{y(change):.1f}" r="3">'
        f"<title>step {step:,}: {change:+.1f} points</title></circle>"
        for step, change in places
    ]
    (_, first), (last_step, last) = places[0], places[-1]
    spoken = f"{title}: from {first:+.1f} to {last:+.1f} points at step {last_step}"
    parts = [*_axes(x, y, width, height), *_line(places, "validation", x, y), *dots]
    return svg(width, height, spoken, parts)


def curves_chart(
    curves: Mapping[str, Sequence[Point]], best: str, width: int, across: str = "step"
) -> Markup | None:
    """Draw the losses of several runs, the best one to stand out; None where there are no points.

    Args:
        curves: By name, (step, loss) in nats per token.
        best: The name of the best one.
        width: In pixels.
        across: What the first number of a point counts.
    """
    finite = {name: points for name, curve in curves.items() if (points := _finite(curve))}
    if not finite:
        return None
    steps = [step for points in finite.values() for step, _ in points]
    losses = [loss for points in finite.values() for _, loss in points]
    is_narrow = width < NARROW_PIXELS
    height = 260 if is_narrow else 320
    x = nice_scale(min(0, *steps), max(steps), 44, width - 12, 4 if is_narrow else 8)
    y = nice_scale(min(losses), max(losses), height - 44, 14, 5)
    parts = [*_axes(x, y, width, height, across)]
    for name in sorted(finite, key=lambda name: name == best):  # the best one above the others
        kind = "best" if name == best else "other"
        places = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in finite[name])
        step, loss = finite[name][-1]
        parts.append(
            f'<g class="curve {kind}"><title>{escape(name)}: {loss:.3f} at {across} {step}</title>'
            f'<polyline points="{places}"/>'
            f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" r="4"/></g>'
        )
    title = f"Held-out loss over {across}s, {len(finite)} curves; best: {best}"
    return svg(width, height, title, parts)


def metric_chart(
    name: str, training: Sequence[Point], held_out: Sequence[Point], width: int
) -> Markup | None:
    """Draw one number over the steps of a run; None where there are no points.

    Args:
        name: What it is.
        training: (step, value) of what is trained on.
        held_out: (step, value) of what is held out; may be empty.
        width: In pixels.
    """
    line, dots = _thinned(_finite(training)), _finite(held_out)
    steps = [step for step, _ in (*line, *dots)]
    values = [value for _, value in (*line, *dots)]
    if not steps:
        return None
    height = 200
    x = nice_scale(min(0, *steps), max(steps), 44, width - 12, 4)
    y = nice_scale(min(values), max(values), height - 44, 14, 4)
    parts = [*_axes(x, y, width, height)]
    parts += [*_line(line, "training", x, y), *_line(dots, "validation", x, y)]
    parts += [
        f'<circle class="point" cx="{x(step):.1f}" cy="{y(value):.1f}" r="3"/>'
        for step, value in dots
    ]
    first, last = (dots or line)[0][1], (dots or line)[-1][1]
    return svg(width, height, f"{name} over steps: from {first:.3g} to {last:.3g}", parts)


def _axes(x: Scale, y: Scale, width: int, height: int, across: str = "step") -> Iterable[str]:
    for tick, text in zip(y.ticks, tick_texts(y.ticks), strict=True):
        yield (
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{y(tick):.1f}" '
            f'y2="{y(tick):.1f}"/><text class="tick" x="{x.start - 8}" y="{y(tick) + 4:.1f}" '
            f'text-anchor="end">{text}</text>'
        )
    for tick, text in zip(x.ticks, tick_texts(x.ticks), strict=True):
        yield (
            f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y.start}" '
            f'y2="{y.start + 5}"/><text class="tick" x="{x(tick):.1f}" y="{y.start + 20}" '
            f'text-anchor="middle">{text}</text>'
        )
    yield f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{y.start}" y2="{y.start}"/>'
    at = f'x="{(x.start + x.end) / 2:.1f}" y="{height - 4}"'
    yield f'<text class="tick" {at} text-anchor="middle">{across}</text>'


def _line(points: Sequence[Point], kind: str, x: Scale, y: Scale) -> list[str]:
    if len(points) < 2:
        return []
    places = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
    return [f'<polyline class="{kind}" points="{places}"/>']


def _best(step: int | None, validation: Sequence[Point], x: Scale, y: Scale) -> list[str]:
    loss = dict(validation).get(step) if step is not None else None
    if step is None or loss is None:
        return []
    at = x(step)
    is_right = at > (x.start + x.end) / 2
    side, gap = ("end", -8) if is_right else ("start", 8)
    return [
        f'<line class="best" x1="{at:.1f}" x2="{at:.1f}" y1="{y.end}" y2="{y.start}"/>'
        f'<circle class="best-dot" cx="{at:.1f}" cy="{y(loss):.1f}" r="6"/>'
        f'<text class="best-label" x="{at + gap:.1f}" y="{y.end + 12}" text-anchor="{side}">'
        f"best: {loss:.3f} at step {step:,}</text>"
    ]


def _after_turn(turn: Turn | None, x: Scale, y: Scale, *, is_narrow: bool) -> list[str]:
    """Shade the steps after which held-out loss rose."""
    if turn is None:
        return []
    begin, end = x(turn.best_step), x(turn.last_step)
    has_room = not is_narrow and end - begin >= _TURN_LABEL_PIXELS
    text = f"held-out loss rises by {turn.rise:.0%}" if has_room else ""
    return [
        f'<rect class="after-turn" x="{begin:.1f}" width="{end - begin:.1f}" '
        f'y="{y.end}" height="{y.start - y.end}"/>'
        f'<text class="turn-label" x="{(begin + end) / 2:.1f}" y="{(y.start + y.end) / 2:.1f}" '
        f'text-anchor="middle">{text}</text>'
    ]


def _loss_title(curves: Curves, validation: Sequence[Point]) -> str:
    if not validation:
        return "Training loss over the steps of the run"
    (_, first), (last_step, last) = validation[0], validation[-1]
    title = f"Loss over steps: validation from {first:.3f} to {last:.3f} at step {last_step}"
    if curves.best_step is not None:
        title += f"; best at step {curves.best_step}"
    if curves.turn is not None:
        title += f", from where it rose by {curves.turn.rise:.0%}"
    return title


def svg(width: int, height: float, title: str, parts: Iterable[str]) -> Markup:
    """Return a picture with its title for people who cannot see it."""
    text = escape(title)
    # Every part is built above from numbers and escaped names.
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{text}">'
        f"<title>{text}</title>{''.join(parts)}</svg>"
    )


def _finite(points: Sequence[Point]) -> list[Point]:
    return [(step, loss) for step, loss in points if math.isfinite(loss)]


def _thinned(points: list[Point]) -> list[Point]:
    """Average runs of neighbours where there are more points than the eye can tell apart."""
    size = math.ceil(len(points) / _MOST_POINTS)
    if size <= 1:
        return points
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(run[len(run) // 2][0], math.fsum(p[1] for p in run) / len(run)) for run in runs]


def nice_scale(low: float, high: float, start: float, end: float, most_ticks: int) -> Scale:
    """Return a scale whose ticks are round numbers and whose ends are ticks."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / most_ticks
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10, 20) if m * magnitude >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(index * step for index in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Return the ticks as text, all with as many decimals as the steps between them need."""
    step = ticks[1] - ticks[0]
    decimals = next((d for d in range(9) if abs(round(step, d) - step) < step * 1e-6), 9)
    return [f"{tick:,.{decimals}f}" for tick in ticks]
