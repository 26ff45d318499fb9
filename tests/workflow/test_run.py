"""The whole life cycle on small random models of several families."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.projects import few_requests, files_of, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import InputError
from tunefork.core.events import Event, RunStarted, Warned, no_sink
from tunefork.data import Example, Message, Renderer
from tunefork.data._text import text_lines
from tunefork.data.render import Draft
from tunefork.inference import Decoding
from tunefork.models import find_base, load_model
from tunefork.workflow import abilities
from tunefork.workflow import run as run_module
from tunefork.workflow.compare_ladder import wanted
from tunefork.workflow.evaluate import evaluate
from tunefork.workflow.opened import open_model
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import load_project
from tunefork.workflow.talk import Conversation
from tunefork.workflow.train import train_project

_CASES = [
    ("llama", "lora"),
    ("qwen2", "lora"),
    ("gpt2", "lora"),
    ("gemma", "lora"),
    ("mistral", "lora"),
    ("llama", "full"),
]
_PROMISED = {
    "verdict": str,
    "reasons": list,
    "scores": dict,
    "gain": float,
    "p_value": float,
    "forgetting": float,
    "base_unchanged": bool,
    "base_bytes": int,
    "adapter_bytes": int,
    "seconds": float,
    "run": str,
    "model": str,
    "report": str,
}
_TRAIN_PROMISED = {
    "run": str,
    "model": str,
    "path": str,
    "steps": int,
    "train_loss": float,
    "validation_loss": float,
    "base_validation_loss": float,
    "seconds": float,
    "tokens_per_second": float,
    "peak_bytes": int,
}


@dataclass(frozen=True)
class _Ran:
    family: str
    strategy: str
    base: Path
    base_before: dict[str, str]
    spec: Path
    out: Path
    result: dict[str, Any]


@pytest.fixture(scope="module", params=_CASES, ids=lambda case: "-".join(case))
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Ran:
    family, strategy = request.param
    folder = tmp_path_factory.mktemp(f"{family}_{strategy}")
    base = save_model(family, folder / "base")
    before = files_of(base)
    spec = write_project(folder / "project", base, strategy=strategy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "general_probe", small_probe)
        patch.setattr(abilities, "load_safety", few_requests)
        patch.setenv("TUNEFORK_HOME", str(folder / "home"))  # where attempts are counted
        result = run_project(load_project(spec), out=folder / "run", sink=no_sink)
    return _Ran(family, strategy, base, before, spec, folder / "run", result)


def test_the_result_has_what_is_promised(ran: _Ran) -> None:
    for key, kind in _PROMISED.items():
        assert isinstance(ran.result[key], kind), key
    assert ran.result["verdict"] in ("ship", "hold", "undecided")
    assert ran.result["reasons"]
    for rung in ("base", "tuned"):
        score = ran.result["scores"][rung]
        assert 0 <= score["low"] <= score["score"] <= score["high"] <= 1
    assert 0 <= ran.result["p_value"] <= 1


def test_every_json_file_is_strict_json(ran: _Ran) -> None:
    names = ("result.json", "evaluation.json", "record.json", "spec.json")
    found = {name: _strict((ran.out / name).read_text()) for name in names}
    for key, kind in _TRAIN_PROMISED.items():
        assert isinstance(found["result.json"][key], kind), key
    assert found["result.json"]["resumed_from"] is None
    assert found["evaluation.json"]["verdict"] == ran.result["verdict"]
    assert len(found["evaluation.json"]["answers"]) == 4
    for line in (ran.out / "metrics.jsonl").read_text().splitlines():
        assert _strict(line)["step"] >= 1


def test_the_base_is_as_it_was(ran: _Ran) -> None:
    assert files_of(ran.base) == ran.base_before
    assert ran.result["base_unchanged"] is True
    assert ran.result["base_bytes"] == (ran.base / "model.safetensors").stat().st_size


def test_nothing_but_the_result_is_left(ran: _Ran) -> None:
    assert sorted(path.name for path in ran.out.iterdir()) == [
        "card.json",
        "evaluation.json",
        "metrics.jsonl",
        "model",
        "record.json",
        "report.html",
        "report.json",
        "report.md",
        "result.json",
        "spec.json",
    ]
    weights = sum(path.stat().st_size for path in (ran.out / "model").glob("*.safetensors"))
    assert ran.result["adapter_bytes"] == weights


def test_the_report_is_self_contained(ran: _Ran) -> None:
    page = Path(ran.result["report"]).read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "what is the cat?" in page
    # A namespace of SVG is a name, not an address that is fetched.
    addresses = set(re.findall(r"""(?:src|href)\s*=\s*["']([^"'#]+)""", page))
    assert not {address for address in addresses if not address.startswith("data:")}
    assert "@import" not in page
    assert not re.search(r"url\(\s*['\"]?(?!data:|#)", page)


def test_the_result_opens_with_its_base_beside_it(ran: _Ran) -> None:
    opened = open_model(ran.result["model"])
    assert opened.is_tuned
    said = [[Message("user", "who is cat a?")]]
    greedy = Decoding(max_new_tokens=8)
    plain = open_model(str(ran.base)).chat.answer(said, greedy)
    with opened.base_chat() as chat:
        assert chat.answer(said, greedy) == plain
    assert len(opened.chat.answer(said, greedy)) == 1


def test_eval_and_chat_work_on_the_run(ran: _Ran) -> None:
    found = evaluate(ran.result["model"], ran.spec.parent / "golden.jsonl", no_sink)
    assert found["score"] == ran.result["scores"]["tuned"]["score"]
    assert found["questions"] == len(found["answers"]) == 4
    recorded = json.loads((ran.out / "evaluation.json").read_text())["answers"]
    assert [row["answer"] for row in found["answers"]] == [row["tuned_answer"] for row in recorded]
    conversation = Conversation(ran.result["model"])
    first = conversation.ask("who is dog b?")
    assert isinstance(first["answer"], str)
    assert isinstance(first["base"], str)
    conversation.clear()
    assert conversation.ask("who is dog b?") == first


def test_the_tuned_model_computes_something_else(ran: _Ran) -> None:
    tuned = open_model(ran.result["model"]).chat.model
    ids = torch.arange(4, 20)
    assert not torch.equal(_logits(tuned, ids), _logits(load_model(find_base(str(ran.base))), ids))


def test_a_full_result_is_an_ordinary_model_folder(ran: _Ran) -> None:
    if ran.strategy != "full":
        assert (ran.out / "model" / "adapter_config.json").is_file()
        return
    plain = transformers.AutoModelForCausalLM.from_pretrained(
        ran.out / "model", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ours = load_model(find_base(str(ran.out / "model")), device="cpu", dtype=torch.float32)
    ids = torch.arange(4, 40)
    with torch.no_grad():
        expected = plain(input_ids=ids[None]).logits[0]
    assert (_logits(ours, ids) - expected).abs().max() < 1e-4
    tokenizer = transformers.AutoTokenizer.from_pretrained(ran.out / "model")
    assert tokenizer.eos_token == "</s>"


def test_a_finished_run_is_measured_again_without_training(
    ran: _Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEFORK_HOME", str(ran.out.parent / "home"))
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    seen: list[Event] = []
    again = run_project(load_project(ran.spec), out=ran.out, resume=True, sink=seen.append)
    assert not [event for event in seen if isinstance(event, RunStarted)]
    # Times differ, and here the safety probe is cut shorter than where the fixture ran.
    timed = ("seconds", "reasons", "rungs", "break_even", "safety")
    timeless = [key for key in ran.result if key not in timed]
    assert {key: again[key] for key in timeless} == {key: ran.result[key] for key in timeless}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("llama") / "base")


def test_the_resolved_spec_gives_the_same_bits(llama: Path, tmp_path: Path) -> None:
    spec = write_project(tmp_path / "project", llama)
    first = train_project(load_project(spec), out=tmp_path / "first", sink=no_sink)
    copied = tmp_path / "elsewhere" / "spec.json"
    copied.parent.mkdir()
    copied.write_bytes((tmp_path / "first" / "spec.json").read_bytes())
    second = train_project(load_project(copied), out=tmp_path / "second", sink=no_sink)
    name = "adapter_model.safetensors"
    assert (first.run.model / name).read_bytes() == (second.run.model / name).read_bytes()
    stored = json.loads((tmp_path / "first" / "spec.json").read_text())
    assert "auto" not in json.dumps(stored)
    assert stored["strategy"]["name"] == "lora"


def test_a_base_beside_the_spec_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model("llama", tmp_path / "project" / "base")
    spec = write_project(tmp_path / "project", "base")
    trained = train_project(load_project(spec), sink=no_sink)
    monkeypatch.chdir("/")
    assert open_model(trained.result["model"]).is_tuned
    assert trained.result["model"] == trained.run.name


@pytest.mark.parametrize(("rungs", "readings"), [(None, 3), ("tuned", 2)])
def test_a_run_renders_each_row_once_for_training(
    rungs: str | None,
    readings: int,
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read to be rendered, for examples where a prompt is searched, and to be checked."""
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    spec = write_project(tmp_path, llama, training={"epochs": 1})
    read: list[str] = []
    prepared: list[str] = []
    lines, draft = text_lines, Renderer.draft

    def counted(path: Path) -> Iterator[tuple[int, str]]:
        read.append(path.name)
        return lines(path)

    def drafted(renderer: Renderer, example: Example) -> Draft:
        prepared.append(str(example.where))
        return draft(renderer, example)

    monkeypatch.setattr("tunefork.data._json.text_lines", counted)
    monkeypatch.setattr(Renderer, "draft", drafted)
    for sitting in range(2):
        read.clear()
        chosen = wanted(rungs)
        run_project(load_project(spec), out=tmp_path / f"run{sitting}", wanted=chosen, sink=no_sink)
        # In the second sitting the tokens of the first are taken.
        assert read.count("train.jsonl") == readings - sitting
        of_training = [place for place in prepared if "train.jsonl" in place]
        assert len(of_training) == len(set(of_training)) == 24


def test_long_rows_are_left_out_and_named(llama: Path, tmp_path: Path) -> None:
    spec = write_project(tmp_path / "project", llama, training={"epochs": 1, "max_length": 60})
    path = tmp_path / "project" / "train.jsonl"
    values = [json.loads(line) for line in path.read_text().splitlines()]
    values[4]["assistant"] = "naps " * 40
    values[9]["assistant"] = "naps " * 40
    write_lines(path, values)
    seen: list[Event] = []
    trained = train_project(load_project(spec), out=tmp_path / "run", sink=seen.append)
    warnings = [event.message for event in seen if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert f"2 rows longer than 60 tokens, left out: {path}:5, {path}:10" in warnings[0]
    counted = trained.run.record["rows"]
    assert counted["training"] + counted["validation"] == len(values) - 2
    assert trained.result["findings"] == warnings


def test_long_validation_rows_are_named_too(llama: Path, tmp_path: Path) -> None:
    data = {"train": "train.jsonl", "validation": "validation.jsonl"}
    spec = write_project(tmp_path, llama, data=data, training={"epochs": 1, "max_length": 60})
    held_out = [{"user": "a", "assistant": "b"}, {"user": "a", "assistant": "naps " * 40}]
    write_lines(tmp_path / "validation.jsonl", held_out)
    seen: list[Event] = []
    train_project(load_project(spec), out=tmp_path / "run", sink=seen.append)
    warnings = [event.message for event in seen if isinstance(event, Warned)]
    assert [f"{tmp_path / 'validation.jsonl'}:2" in warning for warning in warnings] == [True]


def test_without_questions_the_verdict_rests_on_what_was_measured(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    spec = write_project(tmp_path, llama, golden=None)
    result = run_project(load_project(spec), out=tmp_path / "run", sink=no_sink)
    assert result["gain"] is None
    assert result["scores"] == {}
    assert result["verdict"] != "ship"
    assert math.isfinite(result["held_out"]["drop"])


def test_a_run_folder_is_taken_by_its_absolute_path(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_project(tmp_path / "project", llama)
    out = tmp_path / "here"
    out.mkdir()
    monkeypatch.chdir(out)
    trained = train_project(load_project(spec), out=Path(), sink=no_sink)
    assert trained.run.name == "here"
    assert Path(trained.result["path"]) == out / "model"
    assert trained.result["model"] == str(out)


def test_another_spec_does_not_resume_a_run(llama: Path, tmp_path: Path) -> None:
    spec = write_project(tmp_path / "project", llama)
    train_project(load_project(spec), out=tmp_path / "run", sink=no_sink)
    before = files_of(tmp_path / "run")
    changes: list[dict[str, Any]] = [{"training": {"epochs": 3}}, {"date": "2001-02-03"}]
    for change in changes:
        other = load_project(write_project(tmp_path / "project", llama, **change))
        with pytest.raises(InputError, match=r"another spec|began with the date"):
            train_project(other, out=tmp_path / "run", resume=True, sink=no_sink)
    # What does not decide the result may change.
    same = load_project(write_project(tmp_path / "project", llama, goal="other words"))
    train_project(same, out=tmp_path / "run", resume=True, sink=no_sink)
    assert files_of(tmp_path / "run") == before


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    from tunefork.models import PackedLayout, run_on

    with torch.no_grad():
        return run_on(model, ids, PackedLayout([len(ids)], ids.device)).float()


def _strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)
