"""The reward benchmark: its pairs share nothing between training and judging."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reward


def test_pairs_differ_in_intent_and_sides_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "_TRAINED", 40)
    monkeypatch.setattr(reward, "_HELD_OUT", 10)
    intents = ("refund", "invoice", "parcel")
    lines = ["instruction,intent,response"]
    for at in range(60):
        intent = intents[at % 3]
        lines.append(f"where is {intent} {at},{intent},Reply {at} on the {intent}. And so on.")
    path = tmp_path / "support.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    training, held_out = reward.support_pairs(path)
    assert (len(training), len(held_out)) == (40, 10)
    for pair in (*training, *held_out):
        assert pair["chosen"].split()[-1] != pair["rejected"].split()[-1]
        assert "And so on" not in pair["chosen"] + pair["rejected"]
        assert pair["prompt"].split()[2] == pair["chosen"].split()[-1].rstrip(".")
    replies = [
        {pair[key] for pair in part for key in ("chosen", "rejected")}
        for part in (training, held_out)
    ]
    assert not replies[0] & replies[1]
