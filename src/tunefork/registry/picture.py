"""The lineage of a model as a picture: plain SVG text, colours left to the page's style sheet.

Shapes carry the classes `part`, `result`, `arrow`, `label` and `tick`; without a style sheet they
are drawn in the text's own colour.
"""

from __future__ import annotations

from html import escape
from typing import Any

from tunefork.registry.lineage import lineage_parts

_LINE = 18
_PAD = 12
_GAP = 10
_LETTER = 6.6  # pixels of an average one at this size
_MOST_LINES = 4


def lineage_picture(found: dict[str, Any], width: int = 640) -> str:
    """Return a lineage as an SVG element: its parts on the left, the model they made on the right.

    Args:
        found: What `lineage` returned.
        width: In pixels.
    """
    left, right = round(width * 0.58), round(width * 0.3)
    boxes, y, middles = [], 1, []
    for title, lines in lineage_parts(found):
        shown = lines[:_MOST_LINES]
        if len(lines) > _MOST_LINES:
            shown[-1] = f"and {len(lines) - _MOST_LINES + 1} more"
        height = _PAD * 2 + _LINE * (len(shown) + 1) - 6
        boxes.append(_box("part", 1, y, left, height, [title, *shown]))
        middles.append(y + height / 2)
        y += height + _GAP
    total = y - _GAP + 1
    result = [found["model"], found["hash"][:19]]
    if found["evaluation"]:
        result.append(f"verdict: {found['evaluation']['verdict']}")
    if found["aliases"]:
        result.append(", ".join(found["aliases"]))
    height = _PAD * 2 + _LINE * len(result) - 6
    middle = total / 2
    boxes.append(_box("result", width - right - 1, middle - height / 2, right, height, result))
    arrows = [_arrow(left + 1, at, width - right - 1, middle) for at in middles]
    names = ", ".join(title for title, _ in lineage_parts(found))
    title = f"{found['model']} was made from: {names}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lineage" viewBox="0 0 {width} {total}" '
        f'width="{width}" height="{total}" role="img" aria-label="{escape(title)}" '
        f'fill="none" stroke="currentColor" font-size="12">'
        f"<title>{escape(title)}</title>{''.join([*arrows, *boxes])}</svg>"
    )


def _box(kind: str, x: float, y: float, width: float, height: float, lines: list[str]) -> str:
    most = int((width - 2 * _PAD) / _LETTER)
    texts = [
        f'<text class="{"label" if at == 0 else "tick"}" x="{x + _PAD}" '
        f'y="{y + _PAD + 10 + at * _LINE:.1f}" fill="currentColor" stroke="none" '
        f'font-weight="{600 if at == 0 else 400}">{escape(_cut(line, most))}</text>'
        for at, line in enumerate(lines)
    ]
    return (
        f'<rect class="{kind}" x="{x}" y="{y:.1f}" width="{width}" height="{height}" rx="6"/>'
        f"{''.join(texts)}"
    )


def _arrow(x: float, y: float, end_x: float, end_y: float) -> str:
    bend = (x + end_x) / 2
    return (
        f'<path class="arrow" d="M{x} {y:.1f} C{bend:.1f} {y:.1f} {bend:.1f} {end_y:.1f} '
        f'{end_x} {end_y:.1f}"/>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
