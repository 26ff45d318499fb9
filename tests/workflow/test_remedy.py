"""Remedies: what is offered, which scale is chosen, and a scaled run is a run like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.projects import few_requests, small_probe, write_project
from tests.small import save_model
from tunefork.core.errors import TuneforkError
from tunefork.core.events import no_sink
from tunefork.workflow import abilities, remedy
from tunefork.workflow import run as run_module
from tunefork.workflow.remedies import offered
from tunefork.workflow.remedy import Point, apply_remedy, choose
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import Spec, load_project


def curve(*points: tuple[float, float, float, float]) -> list[Point]:
    return [Point(*point) for point in points]


def test_the_most_gain_within_the_budget_is_chosen() -> None:
    found = curve((1.0, 1.0, 0.1, 0.12), (0.6, 1.5, 0.01, 0.018), (0.3, 2.0, 0.0, 0.004))
    chosen = choose(found, 0.02)
    assert chosen is not None
    assert chosen.scale == 0.6


def test_where_none_is_sure_the_least_forgetting_is_chosen() -> None:
    found = curve((1.0, 1.0, 0.1, 0.12), (0.6, 1.5, 0.015, 0.03), (0.3, 2.0, 0.01, 0.025))
    chosen = choose(found, 0.02)
    assert chosen is not None
    assert chosen.scale == 0.3
    assert choose(found[:1], 0.02) is None


def spec_of(**changes: Any) -> Spec:
    values = {
        "data": {"train": "train.jsonl", "replay": 0.2},
        "strategy": {"name": "lora", "rank": 4, "alpha": 8},
        "training": {"epochs": 9, "learning_rate": 3e-3},
        **changes,
    }
    return Spec.model_validate(values)


def test_what_is_offered_fits_how_it_was_trained() -> None:
    assert list(offered(spec_of())) == ["gentle", "replay", "rate", "scale", "epochs"]
    assert "40% general rows" in offered(spec_of())["replay"]
    assert "3 of 9 epochs" in offered(spec_of())["epochs"]
    full = offered(spec_of(strategy="full", training={"epochs": 1, "learning_rate": 1e-3}))
    assert full.keys() == {"gentle", "replay", "rate"}
    assert "scale" not in offered(spec_of(strategy={"name": "lora", "dora": True}))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remedy")
    base = save_model("llama", folder / "base")
    spec = write_project(folder / "project", base, strategy={"name": "lora", "rank": 4, "alpha": 8})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEFORK_HOME", str(folder / "home"))
        patch.setattr(run_module, "general_probe", small_probe)
        patch.setattr(abilities, "load_safety", few_requests)
        run_project(load_project(spec), out=folder / "run", sink=no_sink)
    return folder


def test_a_scaled_run_is_a_run_like_any_other(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEFORK_HOME", str(ran / "home"))
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    monkeypatch.setattr(remedy, "general_probe", small_probe)
    monkeypatch.setattr(remedy, "choose", lambda curve, budget: curve[5])
    result = apply_remedy(str(ran / "run"), "scale", out=ran / "scaled", sink=no_sink)
    assert result["verdict"] in ("ship", "hold", "undecided")
    stored = json.loads((ran / "scaled" / "result.json").read_text())
    assert stored["strategy"]["scale"] == 0.5
    assert [point["scale"] for point in stored["remedy"]["curve"]][:3] == [1.0, 0.9, 0.8]
    configs = [
        json.loads((ran / name / "model" / "adapter_config.json").read_text())
        for name in ("run", "scaled")
    ]
    assert configs[1]["lora_alpha"] == pytest.approx(configs[0]["lora_alpha"] / 2)
    weights = [(ran / n / "model" / "adapter_model.safetensors") for n in ("run", "scaled")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    plain = AutoModelForCausalLM.from_pretrained(ran / "base")
    loaded = PeftModel.from_pretrained(plain, ran / "scaled" / "model")
    assert loaded.peft_config["default"].lora_alpha == configs[1]["lora_alpha"]


def test_training_with_a_scale_gives_the_same_adapter(
    ran: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEFORK_HOME", str(ran / "home"))
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    spec = write_project(
        ran / "project",
        ran / "base",
        strategy={"name": "lora", "rank": 4, "alpha": 8, "scale": 0.5},
    )
    run_project(load_project(spec), out=ran / "trained", sink=no_sink)
    config = json.loads((ran / "trained" / "model" / "adapter_config.json").read_text())
    assert config["lora_alpha"] == pytest.approx(4)
    weights = [(ran / n / "model" / "adapter_model.safetensors") for n in ("run", "trained")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_retraining_changes_what_it_says(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Spec] = []

    def keep(project: Any, **_: Any) -> dict[str, Any]:
        seen.append(project.spec)
        return {}

    monkeypatch.setattr(remedy, "run_project", keep)
    for by in ("replay", "rate", "epochs", "gentle"):
        apply_remedy(str(ran / "run"), by, sink=no_sink)
    before = Spec.model_validate(json.loads((ran / "run" / "spec.json").read_text()))
    assert [each.data.replay for each in seen] == [0.3, 0.0, 0.0, 0.3]
    assert seen[1].training.learning_rate == pytest.approx(before.training.learning_rate / 3)  # type: ignore[operator]
    assert seen[2].training.epochs == 1
    assert seen[3].training == seen[1].training
    assert seen[0].training == before.training


@pytest.mark.parametrize(
    ("name", "by", "says"),
    [("nowhere", "scale", "no run"), ("run", "pray", "no remedy"), ("run", "epochs", "not fit")],
)
def test_what_cannot_be_done_is_told(
    ran: Path, name: str, by: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fewer(spec: Spec) -> dict[str, str]:
        return {key: what for key, what in offered(spec).items() if key != "epochs"}

    monkeypatch.setattr(remedy, "offered", fewer)
    with pytest.raises(TuneforkError, match=says):
        apply_remedy(str(ran / name), by, sink=no_sink)
    assert not (ran / "nowhere").exists()
