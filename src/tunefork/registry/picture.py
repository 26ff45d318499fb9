"""The lineage of a model as a picture: plain SVG text, colours left to the page's style sheet.

Shapes carry the classes `part`, `result`, `arrow`, `label` and `tick`; without a style sheet they
are drawn in the text's own colour.
"""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

from tunefork.registry.lineage import lineage_parts, score_text

_LINE = 18
_PAD = 12
_GAP = 10
_LETTER = 7.2  # pixels of an average one at this size
_SIZE = 13
_SHORT = 19  # `sha256:` and twelve digits
_MOST_LINES = 10
_JOINED = {"settings", "environment"}  # of many short values


def lineage_picture(found: dict[str, Any], width: int = 640) -> str:
    """Return a lineage as an SVG element: its parts on the left, the model they made on the right.

    Args:
        found: What `lineage` returned.
        width: In pixels.
    """
    left, right = round(width * 0.58), round(width * 0.32)
    boxes, y, middles = [], 1.0, []
    for title, lines in lineage_parts(found):
        shown = [title, *_fitted([_joined(lines)] if title in _JOINED else lines, left)]
        boxes.append(_box("part", 1, y, left, shown))
        middles.append(y + _height(shown) / 2)
        y += _height(shown) + _GAP
    total = y - _GAP + 1
    result = _result(found, right)
    total = max(total, _height(result) + 2)
    middle = total / 2
    x = width - right - 1
    boxes.append(_box("result", x, middle - _height(result) / 2, right, result))
    arrows = [_arrow(left + 1, at, x, middle) for at in middles]
    names = ", ".join(title for title, _ in lineage_parts(found))
    title = f"{found['model']} was made from: {names}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lineage" '
        f'viewBox="0 0 {width} {total:g}" width="{width}" height="{total:g}" role="img" '
        f'aria-label="{escape(title)}" fill="none" stroke="currentColor" font-size="{_SIZE}">'
        f"<title>{escape(title)}</title>{''.join([*arrows, *boxes])}</svg>"
    )


def _result(found: dict[str, Any], width: int) -> list[str]:
    """Return the lines that the model's own box says."""
    lines = [found["hash"][:_SHORT]]
    if found["verdict"]:
        lines.append(f"verdict: {found['verdict']}")
    if score := score_text(found):
        lines.append(score)
    if found["aliases"]:
        lines.append(", ".join(found["aliases"]))
    name, *more = _fitted([found["model"]], width)
    return [name, *more, *_fitted(lines, width)]


def _joined(values: list[str]) -> str:
    """Return one line that is broken between its values, not inside them."""
    return ", ".join(value.replace(" ", "\N{NO-BREAK SPACE}") for value in values)


def _fitted(lines: list[str], width: int) -> list[str]:
    """Break lines at spaces, or anywhere in a long word; at most `_MOST_LINES` of them."""
    most = int((width - 2 * _PAD) / _LETTER)
    found = [part for line in lines for part in textwrap.wrap(line, most)]
    if len(found) > _MOST_LINES:
        found[_MOST_LINES - 1 :] = ["…"]
    return found


def _height(lines: list[str]) -> int:
    return _PAD * 2 + _LINE * len(lines) - 6


def _box(kind: str, x: float, y: float, width: float, lines: list[str]) -> str:
    texts = [
        f'<text class="{"label" if at == 0 else "tick"}" x="{x + _PAD}" '
        f'y="{y + _PAD + 10 + at * _LINE:.1f}" fill="currentColor" stroke="none" '
        f'font-weight="{600 if at == 0 else 400}">{escape(line)}</text>'
        for at, line in enumerate(lines)
    ]
    return (
        f'<rect class="{kind}" x="{x}" y="{y:.1f}" width="{width}" height="{_height(lines)}" '
        f'rx="6"/>{"".join(texts)}'
    )


def _arrow(x: float, y: float, end_x: float, end_y: float) -> str:
    bend = (x + end_x) / 2
    return (
        f'<path class="arrow" d="M{x} {y:.1f} C{bend:.1f} {y:.1f} {bend:.1f} {end_y:.1f} '
        f'{end_x} {end_y:.1f}"/>'
    )
