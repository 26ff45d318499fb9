"""The benchmark of `select`: what is made dirty, and the record, with training made up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import dirt, select
from benchmarks.dirt import LEVELS
from tunefork.evaluation import GoldenQuestion

INTENTS = ("refund", "invoice", "parcel")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    support = tmp_path / "bitext_customer_support"
    support.mkdir()
    lines = ["instruction,intent,response"]
    for at in range(400):
        intent = INTENTS[at % 3]
        lines.append(f"how do I get the {intent} number {at} back,{intent},Ask for the {intent}.")
    lines.append("who are you,contact,Write to support@example.com")
    (support / dirt._SUPPORT).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "gsm8k").mkdir()
    sums = [{"question": f"What is {at} + 1?", "answer": f"{at + 1}"} for at in range(300)]
    long = {"question": "long " * 100, "answer": "1"}
    text = "".join(json.dumps(row) + "\n" for row in [long, *sums])
    (tmp_path / "gsm8k" / "train.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("level", LEVELS)
def test_dirt_is_as_much_as_it_says(level: str, data: Path) -> None:
    rows, others = dirt.load(data)
    assert len(rows) == 400
    assert len(others) == 300
    asked, rest = dirt.keep_apart(rows)
    assert Counter(row.intent for row in asked) == dict.fromkeys(INTENTS, 10)
    dirty = dirt.make_dirty(rest, others, level, 300, seed=1)
    assert dirty == dirt.make_dirty(rest, others, level, 300, seed=1)
    assert dirty != dirt.make_dirty(rest, others, level, 300, seed=2)
    counts = Counter(row.kind for row in dirty)
    wanted = {kind: round(300 * share) for kind, share in LEVELS[level].items()}
    assert counts == {**wanted, "clean": 300 - sum(wanted.values())}
    assert not {row.user for row in asked} & {row.user for row in dirty}
    right = {row.intent: row.assistant for row in rows}
    for row in dirty:
        is_right = row.assistant == right.get(row.intent)
        assert is_right == (row.kind in ("clean", "duplicate")), row


def test_the_record_and_the_page(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "_ROWS", 200)
    monkeypatch.setattr(select, "_KEPT", 30)

    def made_up(
        used: select._Set, run: Path, golden: Sequence[GoldenQuestion], seed: int
    ) -> tuple[list[float], dict[str, Any]]:
        n_rows = len(used.path.read_text(encoding="utf-8").splitlines())
        assert n_rows == len(used.rows) == (200 if used.path.stem == "all" else 30)
        share = {"selected": 1.0, "random": 0.0, "all": 0.5}[run.name]
        scores = [float(at < share * len(golden)) for at in range(len(golden))]
        return scores, {"tokens": 1000 * n_rows}

    monkeypatch.setattr(select, "_score", made_up)
    record = select.measure(data, tmp_path / "work", ["light"], rounds=2)
    assert next(iter(record)) == "ratio_to_best_peer"
    found = record["levels"]["light"]
    gains = {name: test["gain"] for name, test in found["gain_over"].items()}
    assert gains["all"] == pytest.approx(0.5)
    assert gains["random"] == pytest.approx(1.0)
    assert (record["questions"], record["groups"]) == (30, 3)
    chosen = found["sets"]["selected"]
    assert sum(chosen["kinds"].values()) == chosen["rows"] == 30
    assert chosen["kinds"]["conflict"] == 0
    page = select.markdown(record)
    assert "| selected | 30 |" in page
    assert "selected over random: +100.0 points" in page
