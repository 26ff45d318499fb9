"""The page of a sweep: its table, and the curve of each candidate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunefork.core.files import write_text
from tunefork.core.units import count_text, duration_text
from tunefork.evaluation.charts import curves_chart
from tunefork.workflow.prepare import read_curve
from tunefork.workflow.spec import Project

_STYLE = Path(__file__).parents[1] / "evaluation" / "report.css"
_WIDTHS = {"wide": 760, "narrow": 340}  # pixels
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ project.name }}: {{ result.winner }}</title>
<style>
{{ style }}
</style>
</head>
<body>
<main>
<header>
  <p class="eyebrow">tunefork sweep</p>
  <h1>{{ result.winner }}</h1>
  <p class="goal">{{ project.spec.goal }}</p>
</header>
<section>
  <h2>Held-out loss</h2>
  {% for size, chart in charts %}
  <div class="chart {{ size }}">{{ chart }}</div>
  {% endfor %}
  <p class="note">Each round the candidates with the lowest loss went on. Coloured: the winner. A
  curve says its name under the mouse.</p>
</section>
<section>
  <h2>Candidates</h2>
  <table>
  <thead><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
  <tbody>
  {% for row in rows %}
  <tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
  {% endfor %}
  </tbody>
  </table>
  <p class="note">{{ "{:,}".format(result.steps) }} of the
  {{ "{:,}".format(result.planned_steps) }} steps that all of them whole would have taken.
  The winner's spec: <code>{{ result.spec }}</code></p>
</section>
</main>
</body>
</html>
"""

COLUMNS = ("candidate", "held-out loss", "steps", "rounds", "trained", "time")


def write_page(
    path: Path, project: Project, result: Mapping[str, Any], curves: Mapping[str, Path]
) -> None:
    """Write the page.

    Args:
        path: Where.
        project: The winner's.
        result: What the sweep found.
        curves: The `metrics.jsonl` of each candidate, by name.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    points = {name: read_curve(file)[1] for name, file in curves.items()}
    charts = [
        (size, chart)
        for size, width in _WIDTHS.items()
        if (chart := curves_chart(points, result["winner"], width)) is not None
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    page = environment.from_string(_PAGE).render(
        project=project,
        result=result,
        charts=charts,
        columns=COLUMNS,
        rows=table_rows(result),
        style=Markup(_STYLE.read_text(encoding="utf-8")),  # ours, not the user's
    )
    write_text(path, page)


def table_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table's cells, the winner first, then by how far and how well each came."""
    found = sorted(
        result["candidates"],
        key=lambda row: (
            row["number"] != result["number"],
            -row["rung"],
            row["validation_loss"] is None,
            row["validation_loss"],
        ),
    )
    return [
        (
            row["name"],
            row["note"] if row["validation_loss"] is None else f"{row['validation_loss']:.4f}",
            f"{row['steps']:,} of {row['planned_steps']:,}",
            str(row["rung"]),
            count_text(row["trainable_parameters"]),
            duration_text(row["seconds"]),
        )
        for row in found
    ]
