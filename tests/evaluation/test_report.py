"""The report: whole without its neighbours, safe with hostile text, complete without data."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunefork.core.errors import RunError
from tunefork.evaluation import (
    Climbed,
    Cost,
    DataFinding,
    Forgetting,
    Highlight,
    Memorised,
    Report,
    Setting,
    Sheet,
    SideBySide,
    build_ladder,
    write_report,
)
from tunefork.evaluation.bars import ScoreRow, change_chart, score_chart
from tunefork.evaluation.charts import Curves, change_over_steps, loss_chart
from tunefork.evaluation.report import render_report
from tunefork.evaluation.report_text import report_data, report_markdown
from tunefork.graders import Grade

VOID = {"meta", "link", "br", "img", "input"}
LOADING = {"src", "href", "action", "srcset", "data", "xlink:href", "poster"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"

FULL = Report(
    title="CatGPT",
    goal="Answers like an owner",
    verdict="ship",
    reasons=("It is better.", "It forgot little."),
    scores={"base": (0.1, 0.05, 0.2), "tuned": (0.9, 0.8, 1.0)},
    gain=0.8,
    p_value=0.0001,
    forgetting=Forgetting(0.7, 0.69, 0.01, -0.01, 0.03, 1000),
    training=tuple((step, 4 / step) for step in range(1, 600)),
    validation=((0, 4.0), (100, 2.0), (200, 1.5), (300, 1.6)),
    base_validation_loss=4.0,
    best_step=200,
    side_by_side=(
        SideBySide("Who?", "Ollie", "A cat.", "Ollie.", False, True, "name"),
        SideBySide("Why?", None, "Because.", "", True, False, "Why?"),
        SideBySide("How?", "So", "No", "No", False, False, "how"),
    ),
    settings=(Setting("epochs", "3", "derived"),),
    lineage=(("base", "sha256:00"),),
    facts=(("Adapter size", "0.6 MB"),),
    highlight=Highlight("What do cats do?", "They sleep.", "Ollie logs 16 hours."),
    mask_preview=((("Hi", False), (" there", True)),),
    sheets=(Sheet("Labels", "of held-out texts", ("label", "F1"), (("cat", "0.91"),)),),
)
HALF = 20


def _climbed(name: str, n_right: int, cost: Cost) -> Climbed:
    grades = tuple(Grade(float(at < n_right), at < n_right, "") for at in range(2 * HALF))
    return Climbed(name, ("",) * (2 * HALF), grades, cost, f"all it takes for {name}")


LADDER = build_ladder(
    [
        _climbed("base", 4, Cost(10, 20, 0.1, 0.05, 0.09, 20, 10_000_000, 0.25)),
        _climbed("prompt", 30, Cost(400, 20, 0.2)),
        _climbed("tuned", 32, Cost(None, None, 0.1)),
    ],
    [str(at) for at in range(2 * HALF)],
    0.95,
    [("retrieval", "the spec names no documents.")],
)
LADDERED = replace(
    FULL,
    recommendation="A prompt is enough: it scores 75 %.",
    ladder=LADDER,
    chosen="prompt",
    scores={r.name: (r.score.mean, r.score.low, r.score.high) for r in LADDER.rungs},
    suites=(("blimp", Forgetting(0.8, 0.7, 0.1, 0.05, 0.15, 600)),),
    remembered=((100, -0.01), (200, -0.1)),
    memorised=Memorised(50, 7, 31, 0.8, "Ollie sleeps all day"),
    findings=(DataFinding("warning", "3 rows hold an address", 3, "take them out", "mail <m>"),),
)
EMPTY = Report(title="Empty", goal="", verdict="undecided", reasons=())


class Page(HTMLParser):
    """Collects elements, and checks that all are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def page(report: Report) -> Page:
    found = Page(render_report(report))
    assert found.open == []
    return found


def test_the_answer_comes_first() -> None:
    text = page(FULL).text
    places = [
        text.index(part)
        for part in ("Ship it", "It is better.", "They sleep.", "+80.0 points", "Side by side")
    ]
    assert places == sorted(places)
    assert "\N{MINUS SIGN}1.0 points" in text
    assert "p < 0.001" in text
    assert "Do not ship" in page(replace(FULL, verdict="hold")).text
    assert "Undecided" in page(EMPTY).text


def test_nothing_is_loaded_from_anywhere() -> None:
    html = render_report(FULL)
    assert not re.search(r"https?://|@import|url\(", html)
    for _, attributes in page(FULL).elements:
        for name, value in attributes.items():
            assert name not in LOADING or value == "data:,", (name, value)


def test_rows_carry_their_outcome() -> None:
    rows = [
        attributes["data-outcome"]
        for tag, attributes in page(FULL).elements
        if tag == "tr" and "data-outcome" in attributes
    ]
    assert rows == ["won", "lost", "same"]
    buttons = [a["data-show"] for tag, a in page(FULL).elements if tag == "button"]
    assert buttons == ["all", "won", "lost", "same"]


def test_charts_say_what_they_show() -> None:
    labels = [
        str(attributes["aria-label"]) for tag, attributes in page(FULL).elements if tag == "svg"
    ]
    assert len(labels) == 6  # each for wide and for narrow screens
    assert "tuned 90.0 % (80.0 to 100.0)" in labels[0]
    assert "best at step 200, from where it rose by 7%" in labels[2]
    assert "General knowledge -1.0 points (-3.0 to +1.0)" in labels[4]


def test_hostile_text_stays_text() -> None:
    hostile = Report(
        title=HOSTILE,
        goal=HOSTILE,
        verdict="hold",
        reasons=(HOSTILE,),
        scores={HOSTILE: (0.5, 0.4, 0.6)},
        side_by_side=(SideBySide(HOSTILE, HOSTILE, HOSTILE, HOSTILE, True, False, HOSTILE + "g"),),
        settings=(Setting(HOSTILE, HOSTILE, "given"),),
        lineage=((HOSTILE, HOSTILE),),
        facts=((HOSTILE, HOSTILE),),
        highlight=Highlight(HOSTILE, HOSTILE, HOSTILE),
        mask_preview=(((HOSTILE, True), (HOSTILE, False)),),
        recommendation=HOSTILE,
        suites=((HOSTILE, Forgetting(0.8, 0.7, 0.1, 0.05, 0.15, 600)),),
        findings=(DataFinding("error", HOSTILE, 1, HOSTILE, HOSTILE),),
        memorised=Memorised(5, 1, 9, 0.5, HOSTILE),
    )
    found = page(hostile)
    assert found.count("script") == 1
    assert found.count("img") == 0
    assert found.text.count("{{ 7*7 }}") >= 15
    assert "alert(1)</script>" not in render_report(hostile)


def test_it_is_complete_with_nothing_measured() -> None:
    found = page(EMPTY)
    assert found.count("svg") == found.count("table") == 0
    for text in ("no golden questions", "No losses were recorded", "Forgetting was not measured"):
        assert text in found.text


def test_no_validation_points() -> None:
    report = replace(FULL, validation=(), base_validation_loss=None, best_step=None)
    text = page(report).text
    assert "only the training loss is shown" in text
    assert "validation loss" not in text


@pytest.mark.parametrize(
    "curves",
    [
        Curves([(1, 2.0)], [], None, None),
        Curves([], [(0, 1.0)], 1.0, 0),
        Curves([(1, 2.0), (2, math.nan), (3, math.inf)], [], math.nan, 7),
        Curves([(1, 0.0), (2, 0.0)], [(2, 0.0)], 0.0, 2),
        Curves([(1, 1e9), (2, 1e-9)], [], None, None),
    ],
)
def test_strange_curves_are_drawn(curves: Curves) -> None:
    chart = loss_chart(curves, 340)
    assert chart is not None
    ElementTree.fromstring(chart)
    assert "nan" not in chart
    assert "inf" not in chart


def test_no_points_no_chart() -> None:
    assert loss_chart(Curves([(1, math.nan)], [], 3.0, None), 760) is None


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 100)), min_size=1, max_size=500),
    st.sampled_from([340, 760]),
)
def test_all_points_lie_on_the_chart(points: list[tuple[int, float]], width: int) -> None:
    chart = loss_chart(Curves(points, points, None, points[0][0]), width)
    root = ElementTree.fromstring(str(chart))
    _, _, right, bottom = map(float, root.attrib["viewBox"].split())
    for circle in root.iter("circle"):
        assert 0 <= float(circle.attrib["cx"]) <= right
        assert 0 <= float(circle.attrib["cy"]) <= bottom
    for line in root.iter("polyline"):
        for place in line.attrib["points"].split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= right
            assert 0 <= y <= bottom


def test_score_chart_is_xml_whatever_the_names() -> None:
    for width in (340, 760):
        rows = [ScoreRow(HOSTILE, 0, 0, 1, HOSTILE), ScoreRow("tuned", 1, 0.9, 1)]
        ElementTree.fromstring(score_chart(rows, width, 0.5))
        changes = change_chart({HOSTILE: Forgetting(0.7, 0.7, 0.0, 0.0, 0.0, 10)}, width)
        assert changes is not None
        ElementTree.fromstring(changes)


def test_a_chart_over_steps_needs_two_of_them() -> None:
    assert change_over_steps([(1, -0.5)], 760, "Change") is None
    chart = change_over_steps([(0, 0.0), (10, -0.08)], 760, "Change")
    assert chart is not None
    assert "Change: from +0.0 to -8.0 points at step 10" in chart


def test_the_recommendation_and_what_it_rests_on_are_told() -> None:
    found = page(LADDERED)
    text = " ".join(found.text.split())
    assert text.index("What to do: A prompt is enough") < text.index("Ways to better answers")
    assert "retrieval was not measured: the spec names no documents." in text
    assert "10,000 20,000 1 min 40 s 0.25 50 ms (90 ms) 10.0 MB all it takes for base" in text
    assert "over prompt" in text
    rows = [a.get("class") for tag, a in found.elements if tag == "tr"]
    assert rows.count("chosen") == 2
    headers = [a for tag, a in found.elements if tag == "th"]
    assert all("scope" in each for each in headers)
    scrolled = [a for tag, a in found.elements if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolled)


def test_overfitting_is_shown_as_such() -> None:
    text = " ".join(page(LADDERED).text.split())
    assert "best at step 200 (loss 1.500). Until step 300 the loss there rose by 7 %" in text
    assert "The result has the weights of the best step." in text
    assert "7 of them word for word (14.0 %)" in text
    level = replace(LADDERED, validation=((0, 4.0), (100, 2.0), (200, 1.5)))
    assert "never turned up" in page(level).text
    assert "Overfitting" not in page(replace(level, memorised=None)).text


def test_what_was_found_in_the_data_is_shown_with_its_example() -> None:
    text = " ".join(page(LADDERED).text.split())
    assert "warning 3 rows hold an address take them out" in text
    assert "mail <m>" in text


def test_markdown_says_the_same() -> None:
    text = report_markdown(LADDERED)
    for part in (
        "**What to do.** A prompt is enough",
        "| **prompt** | 75.0 % |",
        "| blimp | 600 | 80.0 % | 70.0 % |",
        "Held-out loss was lowest at step 200",
        "- `retrieval` was not measured",
        "1 lost, 1 won, 1 same; 3 of 3 shown.",
    ):
        assert part in text
    hostile = report_markdown(replace(EMPTY, title=HOSTILE, reasons=(HOSTILE + "\n# a|b",)))
    assert "<" not in hostile.replace("&lt;", "")
    assert "\n# a" not in hostile
    assert report_markdown(EMPTY).startswith("# Empty")


def test_data_is_strict_json_and_whole() -> None:
    strange = replace(LADDERED, training=((1, math.nan), (2, math.inf)))
    found = json.loads(json.dumps(report_data(strange), allow_nan=False))
    assert found["training"] == [[1, None], [2, None]]
    assert found["rungs"]["prompt"]["over_base"]["gain"] == pytest.approx(0.65)
    assert found["overfitting"]["memorised"]["share"] == pytest.approx(0.14)
    assert found["overfitting"]["turn"]["best_step"] == 200
    assert [row["outcome"] for row in found["answers"]] == ["won", "lost", "same"]
    assert json.loads(json.dumps(report_data(EMPTY)))["rungs"] is None


def test_writing(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    write_report(path, FULL)
    assert path.read_text(encoding="utf-8") == render_report(FULL)
    names = ["report.html", "report.json", "report.md"]
    assert sorted(p.name for p in path.parent.iterdir()) == names
    with pytest.raises(RunError):
        write_report(path / "below" / "report.html", FULL)


_BROWSER = shutil.which("chromium")


@pytest.mark.skipif(_BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_the_filter_and_loads_nothing(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", LADDERED)
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --virtual-time-budget=1000 --dump-dom"
    )
    own = f"--user-data-dir={tmp_path / 'browser'}"
    place = (tmp_path / "report.html").as_uri()
    shown = subprocess.run(
        [str(_BROWSER), *options.split(), own, place],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    # Without scripts it is hidden; the page's policy lets its own script run, and nothing else.
    assert '<div class="filters" role="group" aria-label="Show questions">' in shown
    assert "<tr data-outcome=" in shown
