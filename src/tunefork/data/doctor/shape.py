"""Answers that have not the form which most of them have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip, on_rows
from tunefork.data.doctor.rows import Row

_ENOUGH_ROWS, _USUAL_SHARE = 20, 0.9
_FENCED = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)


def inconsistent(context: Context) -> Iterator[Finding]:
    """Report answers of another form than nine in ten have, and broken JSON."""
    spoken = [row for row in context.rows if row.answer.strip()]
    if context.labels or not spoken:
        return
    looks = [row for row in spoken if _looks_like_json(row.answer)]
    broken = [row for row in looks if not _is_json(row.answer)]
    is_json_data = len(looks) >= _USUAL_SHARE * len(spoken) and len(looks) > 1
    if is_json_data:
        others = [row for row in spoken if not _is_json(row.answer)]
        yield from _report(others, "JSON", "which is no JSON or broken JSON")
        return
    # Here and there an answer in brackets is prose; several answers that parse show the intent.
    if len(looks) - len(broken) > len(broken):
        yield from _report(broken, None, "which looks like JSON but is broken")
    if len(spoken) < _ENOUGH_ROWS:
        return
    for name, has_form in _FORMS:
        others = [row for row in spoken if not has_form(row.answer)]
        if 0 < len(others) <= (1 - _USUAL_SHARE) * len(spoken):
            yield from _report(others, name, "of another form")
            return


def _report(rows: list[Row], usual: str | None, what: str) -> list[Finding]:
    most = f"; most are {usual}" if usual else ""
    return on_rows(
        "format.inconsistent",
        "warning",
        rows,
        f"with an answer {what}{most}",
        "write all answers in one form, or the model will mix them",
        clip(rows[0].answer) if rows else "",
    )


def _looks_like_json(answer: str) -> bool:
    text = _unfenced(answer)
    return (text[:1] == "{" and not text.startswith("{{")) or text[:2] in ("[{", '["', "[[")


def _is_json(answer: str) -> bool:
    try:
        json.loads(_unfenced(answer))
    except (ValueError, RecursionError):
        return False
    return True


def _unfenced(answer: str) -> str:
    text = answer.strip()
    fenced = _FENCED.match(text)
    return fenced.group(1) if fenced else text


def _is_one_line(answer: str) -> bool:
    return "\n" not in answer.strip()


def _is_list(answer: str) -> bool:
    return len(_BULLET.findall(answer)) >= 2


_FORMS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("lists", _is_list),
    ("one line", _is_one_line),
)
