"""The findings as one self-contained page. Nothing is fetched, and nothing in it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunefork.core.files import write_text
from tunefork.data.doctor.finding import SEVERITIES, Finding

_SHOWN_ROWS = 40
_HEADLINES = {
    "error": ("Not yet ready to train on", "Mend what is marked as an error first."),
    "warning": ("Ready, with something to look at", "Training works; better data works better."),
    "note": ("Ready to train on", "Nothing stands against it."),
}


def write_page(
    path: Path, *, title: str, rows: int, form: str, findings: Sequence[Finding], command: str
) -> None:
    """Write the page, whole or not at all.

    Raises:
        RunError: The file cannot be written.
    """
    write_text(path, render_page(title, rows, form, findings, command))


def render_page(title: str, rows: int, form: str, findings: Sequence[Finding], command: str) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    worst = next((s for s in SEVERITIES if any(f.severity == s for f in findings)), "note")
    headline, meaning = _HEADLINES[worst]
    groups = [(s, [f for f in findings if f.severity == s]) for s in SEVERITIES]
    return environment.get_template("page.html.j2").render(
        title=title,
        rows=rows,
        form=form,
        worst=worst,
        headline=headline,
        meaning=meaning,
        groups=[(severity, found) for severity, found in groups if found],
        counts=[(severity, len(found)) for severity, found in groups],
        command=command,
        row_list=row_list,
    )


def row_list(finding: Finding) -> str:
    """Return the numbers of a finding's rows, of many only the first."""
    numbers = ", ".join(map(str, finding.rows[:_SHOWN_ROWS]))
    more = len(finding.rows) - _SHOWN_ROWS
    return f"{numbers} and {more:,} more" if more > 0 else numbers
