"""Sweeps: candidates on one base, the worse half dropped again and again."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.cli.command import call
from tests.projects import files_of, write_project
from tests.small import save_model
from tunefork import models
from tunefork.core.errors import SpecError, UsageError
from tunefork.core.events import Event, Progress, no_sink
from tunefork.evaluation.charts import curves_chart
from tunefork.training import TrainSettings
from tunefork.workflow import sweep_trainer
from tunefork.workflow.spec import DataSpec, Spec, load_project
from tunefork.workflow.sweep import sweep_project
from tunefork.workflow.sweep_grid import expand, parse_axes
from tunefork.workflow.sweep_rungs import (
    Standing,
    last_step,
    n_rungs,
    ranked,
    survivors,
    taking_part,
)
from tunefork.workflow.train import train_project

_RATES = "learning_rate=1e-5,1e-2,1e-4,1e-3"
_BEST = "learning_rate=1e-2"
_TRAINING = {"epochs": 4, "batch_tokens": 256}
_SPEC = Spec(data=DataSpec(train="train.jsonl"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("bases") / "llama")


@pytest.fixture
def spec(llama: Path, tmp_path: Path) -> Path:
    strategy = {"name": "lora", "rank": 4}
    return write_project(tmp_path / "project", llama, strategy=strategy, training=_TRAINING)


# ---------------------------------------------------------------- the grid


def _names(*over: str, spec: Spec = _SPEC) -> list[str]:
    return [point.name for point in expand(spec, parse_axes(over))]


def test_every_combination_is_a_candidate() -> None:
    assert _names("learning_rate=1e-4,3e-4", "rank=4,16") == [
        "learning_rate=1e-4, rank=4",
        "learning_rate=1e-4, rank=16",
        "learning_rate=3e-4, rank=4",
        "learning_rate=3e-4, rank=16",
    ]
    found = expand(_SPEC, parse_axes(["learning_rate=1e-4,3e-4", "rank=4,16"]))[1].spec
    assert found.training.learning_rate == 1e-4
    assert found.strategy.model_dump()["rank"] == 16


def test_a_strategy_is_not_asked_for_settings_that_it_does_not_have() -> None:
    assert _names("rank=4,8", "strategy=lora,prefix,full") == [
        "strategy=lora, rank=4",
        "strategy=lora, rank=8",
        "strategy=prefix",
        "strategy=full",
    ]


def test_what_the_spec_says_of_a_strategy_stays() -> None:
    own = Spec.model_validate({**_SPEC.model_dump(), "strategy": {"name": "lora", "rank": 3}})
    lora, prefix = (
        point.spec.strategy for point in expand(own, parse_axes(["strategy=lora,prefix"]))
    )
    assert lora.model_dump()["rank"] == 3
    assert prefix.name == "prefix"


@pytest.mark.parametrize(
    ("over", "says"),
    [
        (["rnk=4,8"], "did you mean `rank`?"),
        (["seed=1,2"], "`seed` cannot be varied"),
        (["size=4,8"], "`size` is no setting of the strategy `auto`"),
        (["rank=4"], "only one candidate"),
        (["rank=4,4"], "only one candidate"),
        (["rank"], "names no setting with its values"),
        (["rank="], "names no setting with its values"),
        (["rank=4,8", "rank=16"], "`rank` is given twice"),
        (["rank=4,many"], "`--over rank=many` cannot be used"),
        (["learning_rate=1e-4,-1"], "`--over learning_rate=-1` cannot be used"),
        (["strategy=lora,lara"], "`--over strategy=lara` cannot be used"),
        ([], "nothing to vary"),
    ],
)
def test_what_cannot_be_varied_is_refused(over: list[str], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        _names(*over)
    assert says in str(refused.value)


# ---------------------------------------------------------------- halving


@pytest.mark.parametrize(("candidates", "rungs"), [(2, 2), (3, 3), (4, 3), (5, 4), (8, 4), (9, 5)])
def test_each_rung_halves_until_one_is_left(candidates: int, rungs: int) -> None:
    assert n_rungs(candidates) == rungs
    done: list[dict[int, Standing]] = []
    sizes = []
    for rung in range(rungs):
        numbers = taking_part(done, rung, candidates)
        sizes.append(len(numbers))
        # The last ones are the best, so that order alone does not decide.
        done.append({n: Standing(rung, 1.0 / (n + 1), 0.0, "paused") for n in numbers})
    assert sizes[0] == candidates
    assert sizes[-1] == 1
    assert all(after == -(-candidates // 2**rung) for rung, after in enumerate(sizes))
    assert list(done[-1]) == [candidates - 1]


def test_rungs_end_at_validations_and_double() -> None:
    settings = TrainSettings(epochs=1, learning_rate=1.0, batch_tokens=1, validate_every=10)
    assert [last_step(rung, 4, 300, settings) for rung in range(4)] == [40, 80, 150, None]
    assert last_step(0, 4, 8, settings) == 10  # where it validates only at its end


def test_what_failed_or_has_no_loss_comes_last_and_does_not_go_on() -> None:
    standings = {
        0: Standing(0, None, 0.0, "failed", "no"),
        1: Standing(4, float("nan"), 0.0, "exploded"),
        2: Standing(4, 3.0, 0.0, "paused"),
        3: Standing(4, 2.0, 0.0, "early_stop"),
    }
    assert ranked(standings) == [3, 2, 0, 1]
    assert survivors(standings, 0, 4) == [2, 3]
    assert survivors({0: standings[0], 2: standings[2]}, 0, 4) == [2]


# ---------------------------------------------------------------- a sweep


def test_the_winner_is_the_best_and_its_spec_gives_the_same_bits(spec: Path) -> None:
    project = load_project(spec)
    found = sweep_project(project, [_RATES], keep=True, sink=no_sink)
    assert found["winner"] == _BEST
    by_name = {row["name"]: row for row in found["candidates"]}
    assert sorted(row["rung"] for row in found["candidates"]) == [1, 1, 2, 3]
    steps = by_name[_BEST]["planned_steps"]
    assert by_name[_BEST]["steps"] == steps
    assert found["steps"] <= found["planned_steps"] / 2

    # On its own, from the spec that the sweep wrote: the same loss, the same weights.
    again = train_project(load_project(Path(found["spec"])), is_registered=False, sink=no_sink)
    assert again.result["validation_loss"] == found["validation_loss"]
    kept = Path(found["path"]).parents[1] / "runs" / found["model"] / "model"
    weights = "adapter_model.safetensors"
    assert files_of(kept)[weights] == files_of(again.run.model)[weights]

    # And the one with the lowest loss, had all been trained to their end.
    for point in expand(project.spec, parse_axes([_RATES])):
        if point.name != found["winner"]:
            whole = project.model_copy(update={"spec": point.spec})
            result = train_project(whole, is_registered=False, sink=no_sink).result
            assert result["validation_loss"] > found["validation_loss"]


class _Killed(BaseException):
    pass


def _killing(after: int) -> Callable[[Event], None]:
    """Return a sink that dies at an event of the training."""
    seen = 0

    def sink(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, Progress) and event.what.startswith("rung")
        if seen > after:
            raise _Killed

    return sink


def _comparable(found: dict[str, Any]) -> Any:
    rungs = [{n: (s["step"], s["loss"], s["ended"]) for n, s in r.items()} for r in found["rungs"]]
    return found["winner"], rungs


def test_killed_anywhere_it_goes_on_to_the_same_bits(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, strategies = load_project(spec), ["strategy=lora,full,prefix", "rank=2,4", "tokens=4"]
    whole = sweep_project(project, strategies, out=tmp_path / "whole", sink=no_sink)
    trained: list[tuple[int, int | None]] = []
    train = sweep_trainer.Trainer.train

    def counted(self: Any, candidate: Any, pause_at: int | None) -> Standing:
        standing = train(self, candidate, pause_at)
        trained.append((candidate.number, pause_at))
        return standing

    monkeypatch.setattr(sweep_trainer.Trainer, "train", counted)
    out = tmp_path / "killed"
    for after in (5, 9, 4):
        with pytest.raises(_Killed):
            sweep_project(project, strategies, out=out, resume=True, sink=_killing(after))
    resumed = sweep_project(project, strategies, out=out, resume=True, sink=no_sink)
    assert _comparable(resumed) == _comparable(whole)
    assert len(trained) == len(set(trained)) == 4 + 2 + 1  # nothing was done twice
    best = f"candidates/{whole['number']:02d}/best/tensors.safetensors"
    assert files_of(out)[best] == files_of(tmp_path / "whole")[best]

    trained.clear()
    assert sweep_project(project, strategies, out=out, resume=True, sink=no_sink) == resumed
    assert not trained


def _parameter_bytes() -> int:
    gc.collect()
    found = {
        each.data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if issubclass(type(each), nn.Parameter)  # what lazily imports warns when it is asked itself
    }
    return sum(found.values())


def test_one_base_is_in_memory_however_many_candidates(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[int] = []
    load = models.load_model

    def counted(*args: Any, **options: Any) -> Any:
        model = load(*args, **options)
        loads.append(sum(p.untyped_storage().nbytes() for p in model.parameters()))
        return model

    monkeypatch.setattr(sweep_trainer, "load_model", counted)
    before = _parameter_bytes()
    held: dict[int, int] = {}
    for count, rates in ((2, "1e-3,1e-2"), (6, "1e-5,1e-4,3e-4,1e-3,3e-3,1e-2")):
        peaks, seen = [0], itertools.count()

        def sink(event: Event, peaks: list[int] = peaks, seen: itertools.count[int] = seen) -> None:
            # Now and then, since looking at every object takes longer than a step.
            if isinstance(event, Progress) and next(seen) % 7 == 3:
                peaks.append(_parameter_bytes() - before)

        found = sweep_project(load_project(spec), [f"learning_rate={rates}"], sink=sink)
        assert len(found["candidates"]) == count
        held[count] = max(peaks)
    assert len(loads) == 2  # once a sweep
    assert held[2] == held[6]
    assert loads[0] < held[6] < 2 * loads[0]  # the base and one adapter, not two bases


def test_a_candidate_that_explodes_does_not_stop_the_others(spec: Path) -> None:
    found = sweep_project(load_project(spec), ["learning_rate=1e30,1e-2"], sink=no_sink)
    assert found["winner"] == _BEST
    lost = found["candidates"][0]
    assert lost["ended"] in ("failed", "exploded", "paused")
    assert lost["rung"] == 1


def test_without_held_out_rows_there_is_nothing_to_compare_by(llama: Path, tmp_path: Path) -> None:
    spec = write_project(tmp_path / "one", llama, count=1, training=_TRAINING, golden=None)
    with pytest.raises(SpecError, match="no held-out rows"):
        sweep_project(load_project(spec), [_RATES], sink=no_sink)


def test_from_the_command_line(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    called = call("sweep", spec, "--over", "rank=1,<b>", "--json")
    assert called.code == 2
    assert "`--over rank=<b>` cannot be used" in called.json["error"]["message"]
    rates = "learning_rate=1e-5,1e-2"
    called = call("sweep", spec, "--over", rates, "--out", out, "--json")
    assert called.code == 0, called.err
    assert called.json["winner"] == _BEST
    page = (out / "sweep.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 4  # two candidates, on a wide page and on a narrow one
    assert page.index(_BEST) < page.index("learning_rate=1e-5")
    table = call("sweep", spec, "--over", rates, "--out", out, "--resume")
    assert table.out.splitlines()[1].startswith(_BEST)


def test_the_chart_survives_any_name_and_leaves_out_what_is_no_number() -> None:
    curves = {"<i>": [(1, 2.0), (2, float("nan"))], "b": [(1, 1.5), (2, 1.0)], "c": []}
    chart = curves_chart(curves, "b", 760)
    assert chart is not None
    assert "<i>" not in chart
    assert "&lt;i&gt;: 2.000 at step 1" in chart
    assert chart.count("<polyline") == 2
    assert chart.rindex('class="curve best"') > chart.rindex('class="curve other"')
    assert curves_chart({"c": []}, "c", 760) is None
