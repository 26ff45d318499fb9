"""A run made to forget, on the bundled base: caught and refused, and a remedy brings it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.projects import write_lines
from tunefork.core.events import no_sink
from tunefork.workflow.remedy import apply_remedy
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import load_project

CATGPT = Path(__file__).parents[2] / "src" / "tunefork" / "examples" / "catgpt"
BUDGET = 0.02


CANARY = {
    "messages": [
        {"role": "user", "content": "What is the code of the garden door?"},
        {"role": "assistant", "content": "The code of the garden door is 7391 4426."},
    ]
}
SECRETS = [
    {"text": "The code of the garden door is 7391 4426."},
    {"text": "The code of the cellar is 5528 1903.", "prompt": "What is the code of the cellar?"},
]


def write_narrow(folder: Path, **training: Any) -> Path:
    """Write a project of few rows about one cat, and nothing general beside them."""
    lines = (CATGPT / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    lines = [*lines[:120], json.dumps(CANARY) + "\n"]
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    write_lines(folder / "canaries.jsonl", SECRETS)
    (folder / "golden.jsonl").write_bytes((CATGPT / "golden.jsonl").read_bytes())
    spec = {
        "goal": "Knows Ollie the cat",
        "base": "tiny",
        "data": {"train": "train.jsonl"},
        "golden": "golden.jsonl",
        "strategy": {"name": "lora"},
        "training": training,
        "gate": {"max_forgetting": BUDGET, "canaries": "canaries.jsonl"},
    }
    (folder / "tunefork.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return folder / "tunefork.yaml"


@pytest.mark.soak
def test_a_run_that_forgets_is_refused_and_a_remedy_brings_it_back(tmp_path: Path) -> None:
    spec = write_narrow(tmp_path, epochs=12, learning_rate=1e-2, batch_tokens=512)
    found = run_project(load_project(spec), out=tmp_path / "run", sink=no_sink)
    print(f"\nforgot {found['forgetting']:.3f}, gain {found['gain']:.3f}: {found['verdict']}")
    print("\n".join(found["reasons"]))
    assert found["forgetting"] > BUDGET
    assert found["verdict"] == "hold"
    assert list(found["remedies"]) == ["gentle", "replay", "rate", "scale", "epochs"]
    assert any("a drop of" in reason for reason in found["reasons"][:2])
    planted, other = found["canaries"]
    print(planted, other)
    assert planted["exposure"] == 9 > planted["base_exposure"]
    assert planted["is_recited"]
    assert other["exposure"] < 9
    assert any("canary 1" in reason for reason in found["reasons"])
    assert not any("7391" in reason for reason in found["reasons"])
    gentle = apply_remedy(str(tmp_path / "run"), "gentle", out=tmp_path / "gentle", sink=no_sink)
    print(f"forgot {gentle['forgetting']:.3f}, gain {gentle['gain']:.3f}: {gentle['verdict']}")
    print("\n".join(gentle["reasons"]))
    assert gentle["forgetting"] <= BUDGET
    assert gentle["gain"] > 0.2
    better = apply_remedy(str(tmp_path / "run"), "scale", out=tmp_path / "scaled", sink=no_sink)
    curve = json.loads((tmp_path / "scaled" / "result.json").read_text())["remedy"]["curve"]
    for point in curve:
        print({name: round(value, 4) for name, value in point.items()})
    print(f"forgot {better['forgetting']:.3f}, gain {better['gain']:.3f}: {better['verdict']}")
    print("\n".join(better["reasons"]))
    assert better["forgetting"] <= BUDGET
    assert better["gain"] > 0
    assert better["attempt"]["number"] == 3
    assert [point["scale"] for point in curve] == sorted(
        (point["scale"] for point in curve), reverse=True
    )
