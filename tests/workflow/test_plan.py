"""`plan`: exact counts without weights, a table that fits the machine, and real steps on demand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import call
from tests.projects import write_project
from tests.small import packed_model, random_rows, save_model
from tests.strategies.cases import ARCHITECTURES, quantized_model
from tunefork.core.events import no_sink
from tunefork.models import Base
from tunefork.training import TrainingData, TrainSettings
from tunefork.workflow import plan as plan_module
from tunefork.workflow.estimate import Body, estimate, heaviest_rows
from tunefork.workflow.machine import Machine, gpu_of, processor_with
from tunefork.workflow.plan import CHOICES, plan
from tunefork.workflow.settle import Values, build, settle
from tunefork.workflow.spec import load_project
from tunefork.workflow.strategy_specs import ChosenSpec, LoraSpec, PrefixSpec
from tunefork.workflow.trial import Trial, measure

_MORE: tuple[ChosenSpec, ...] = (
    LoraSpec(name="lora", rank=4, dora=True),
    LoraSpec(name="lora", rank_pattern={r".*\.0\..*": 2}),
    PrefixSpec(name="prefix", tokens=5, projection=16),
)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: Base(name, save_model(name, folder / name)) for name in ARCHITECTURES}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_counts_are_those_of_the_real_thing(
    architecture: str, bases: dict[str, Base], tmp_path: Path
) -> None:
    base = bases[architecture]
    body = Body(base)
    for number, chosen in enumerate((*CHOICES, *_MORE)):
        settled = settle(chosen, base, Values())
        is_quantized = settled.name == "qlora"
        model = quantized_model(architecture) if is_quantized else packed_model(architecture)
        strategy = build(settled)
        strategy.attach(model, 0)
        parameters = strategy.parameters(model).values()
        found = body.trainable(settled)
        assert found.parameters == sum(p.numel() for p in parameters), settled
        assert found.tensors == len(parameters)
        folder = tmp_path / str(number)
        folder.mkdir()
        if settled.name != "full":
            strategy.save(model, folder, base)
            real = (folder / "adapter_model.safetensors").stat().st_size
            assert found.saved_bytes == pytest.approx(real, rel=0.1)


def test_an_allocator_that_leaves_gaps_takes_more(bases: dict[str, Base]) -> None:
    body, machine = Body(bases["llama"]), processor_with(1 << 40)
    assert not machine.wastes_memory, "another machine is taken to have what helps"
    for chosen in CHOICES:
        settled = settle(chosen, body.base, Values())
        trainable = body.trainable(settled)
        good, bad = (
            estimate(
                body,
                settled,
                trainable,
                dataclasses.replace(machine, wastes_memory=wastes),
                [[99] * 9],
                recompute=False,
            )
            for wastes in (False, True)
        )
        assert bad.activations > good.activations
        assert dataclasses.replace(bad, activations=good.activations) == good


def test_memory_grows_with_what_is_asked_for(bases: dict[str, Base]) -> None:
    body, machine = Body(bases["llama"]), processor_with(1 << 40)

    def bytes_of(chosen: ChosenSpec, lengths: list[int], recompute: bool = False) -> Any:
        settled = settle(chosen, body.base, Values())
        trainable = body.trainable(settled)
        return estimate(body, settled, trainable, machine, [lengths], recompute=recompute)

    lora, full = LoraSpec(name="lora"), CHOICES[-1]
    assert bytes_of(lora, [99] * 9).activations > 2 * bytes_of(lora, [99] * 3).activations
    assert bytes_of(lora, [9999], True).activations < bytes_of(lora, [9999]).activations
    assert bytes_of(LoraSpec(name="qlora"), [99]).weights < bytes_of(lora, [99]).weights
    n_parameters = sum(p.numel() for p in packed_model("llama").parameters())
    assert bytes_of(full, [99]).weights == n_parameters * machine.bytes_per_number
    assert bytes_of(full, [99]).optimizer >= 8 * n_parameters


def test_the_heaviest_packed_rows_are_of_the_longest_documents() -> None:
    lengths = np.array([3, 9, 5, 7])
    assert heaviest_rows(lengths, 16) == [[9, 7], [9, 7]]
    assert heaviest_rows(lengths, 4)[0] == [9]
    assert heaviest_rows(lengths, 100)[0] == [9, 7, 5, 3]
    # Long documents keep no attention weights, so that short ones may take more.
    assert heaviest_rows(np.array([300, 250, 10]), 400) == [[300], [250, 10]]


@pytest.fixture(scope="module")
def spec(bases: dict[str, Base], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"), bases["llama"].folder)


def test_the_command_tells_what_the_design_promises(spec: Path) -> None:
    called = call("plan", spec, "--json")
    assert called.code == 0, called.err
    found = called.json
    assert {"machine", "candidates", "recommended", "reason"} <= found.keys()
    assert [each["strategy"] for each in found["candidates"]] == [c.name for c in CHOICES]
    for each in found["candidates"]:
        assert each["trainable_parameters"] > 0
        assert each["adapter_bytes"] > 0
        assert each["peak_bytes"] == sum(each["memory"].values()) - each["memory"]["loading"]
        assert each["seconds"] > 0
        assert each["fits"] is True
        assert not each["measured"]
    assert found["recommended"] == "lora"
    assert found["reason"].count(". ") == 1
    shown = call("plan", spec)
    assert shown.code == 0
    assert "Recommended: lora" in shown.out
    assert all(choice.name in shown.out for choice in CHOICES)


def test_another_machine_can_be_named(spec: Path) -> None:
    named = call("plan", spec, "--gpu", "24GB", "--json").json
    assert named["machine"]["memory_bytes"] == 24_000_000_000
    assert {each["seconds"] for each in named["candidates"]} == {None}
    tight = call("plan", spec, "--ram", "1MB", "--json").json
    assert tight["recommended"] is None
    assert not any(each["fits"] for each in tight["candidates"])
    assert "smaller base" in tight["reason"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpu", "lots"], "`lots` is no size"),
        (["--gpu", "24"], "`24` is no size"),
        (["--ram", "0GB"], "`0GB` is no size"),
        (["--gpu", "8GB", "--ram", "8GB"], "two machines"),
        (["--gpu", "8GB", "--probe"], "measures this machine"),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments: list[str], says: str, spec: Path) -> None:
    called = call("plan", spec, *arguments, "--json")
    assert called.code == 2
    assert says in called.json["error"]["message"]


def test_four_bits_are_recommended_where_lora_does_not_fit(spec: Path) -> None:
    project = load_project(spec)
    lora, qlora, *_ = plan(project, gpu_of(1), probe=False, sink=no_sink)["candidates"]
    # On a GPU no file is held while four bits are made.
    assert qlora["peak_bytes"] < lora["peak_bytes"]
    between = (lora["peak_bytes"] + qlora["peak_bytes"]) / 2
    found = plan(project, gpu_of(round(between / 0.9)), probe=False, sink=no_sink)
    assert found["recommended"] == "qlora"
    assert "LoRA needs" in found["reason"]


def test_what_fits_where_neither_lora_does_is_named(spec: Path) -> None:
    project = load_project(spec)
    peaks = {
        each["strategy"]: each["peak_bytes"]
        for each in plan(project, gpu_of(1), probe=False, sink=no_sink)["candidates"]
    }
    most = min(peaks["lora"], peaks["qlora"]) - 1
    found = plan(project, gpu_of(round(most / 0.9)), probe=False, sink=no_sink)
    fitting = [name for name, peak in peaks.items() if peak <= most]
    assert "prefix" in fitting
    assert found["recommended"] is None
    assert f"ask for {' or '.join(f'`{name}`' for name in fitting)} by name" in found["reason"]


def test_full_is_recommended_where_lora_would_hardly_be_smaller(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunefork.workflow.rules.rank", lambda *_: 32)
    found = plan(load_project(spec), gpu_of(1 << 30), probe=False, sink=no_sink)
    assert found["recommended"] == "full"
    assert found["reason"].count(". ") == 1
    assert "of the base's parameters" in found["reason"]
    *_, full = plan(load_project(spec), gpu_of(1), probe=False, sink=no_sink)["candidates"]
    short = gpu_of(round((full["peak_bytes"] - 1) / 0.9))
    assert plan(load_project(spec), short, probe=False, sink=no_sink)["recommended"] != "full"


def test_a_probe_replaces_what_was_predicted(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(base: Base, chosen: ChosenSpec, *_: Any) -> Trial:
        if chosen.name == "lora":
            return Trial(refused="killed by the system")
        return Trial(peak_bytes=123, tokens_per_second=1e9)

    monkeypatch.setattr(plan_module, "measure", fake)
    machine = Machine("cpu", "this", 1 << 40, 1 << 40, 2, is_this=True)
    found = plan(load_project(spec), machine, probe=True, sink=no_sink)
    lora, qlora, *_ = found["candidates"]
    assert not lora["fits"]
    assert "killed" in lora["note"]
    assert (qlora["peak_bytes"], qlora["measured"]) == (123, True)
    assert qlora["seconds"] < 1e-3
    assert found["recommended"] == "qlora"


def test_real_steps_are_measured_in_a_process_of_their_own(bases: dict[str, Base]) -> None:
    settings = TrainSettings(epochs=3, learning_rate=1e-3, batch_tokens=60, micro_tokens=30)
    lora, data = LoraSpec(name="lora", rank=4, alpha=8), TrainingData(random_rows(60))
    trial = measure(bases["llama"], lora, settings, data)
    assert not trial.refused
    assert trial.peak_bytes > 0
    assert trial.tokens_per_second > 0
    assert trial.micro_tokens == 30
    assert trial.tokens >= 60
    broken = LoraSpec(name="lora", rank=4, alpha=8, targets=("nothing",))
    assert "no linear layer" in measure(bases["llama"], broken, settings, data).refused


def test_settings_are_told_before_training(spec: Path, tmp_path: Path) -> None:
    called = call("train", spec, "--out", tmp_path / "run", "--json")
    assert called.code == 0, called.err
    given, derived = (
        next(line for line in called.err.splitlines() if line.startswith(origin))
        for origin in ("Given: ", "Derived: ")
    )
    assert "epochs 2" in given
    assert "strategy lora" in derived
    assert "learning_rate" in derived
    stored = json.loads((tmp_path / "run" / "spec.json").read_text(encoding="utf-8"))
    assert stored["strategy"]["name"] == "lora"
    assert "auto" not in json.dumps(stored)
    assert called.json["predicted_peak_bytes"] > 0
