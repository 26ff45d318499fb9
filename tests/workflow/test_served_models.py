"""What a server finds by name: bases, registered models, aliases, prompts; and nothing by path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import write_project
from tests.small import save_model
from tunefork.core.events import no_sink
from tunefork.data import Message
from tunefork.inference import Decoding
from tunefork.inference.engine import EngineSettings, Request, Sampling
from tunefork.models import find_base
from tunefork.registry import find_model, open_registry, promote
from tunefork.serving.callers import LOCAL
from tunefork.serving.catalogue import ServedModel
from tunefork.workflow.registered import Prompt, register_prompt
from tunefork.workflow.served_bases import LoadedBases
from tunefork.workflow.served_models import Names, ServedModels
from tunefork.workflow.spec import load_project
from tunefork.workflow.train import train_project


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model("llama", tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def served(base: Path, tmp_path: Path) -> Iterator[ServedModels]:
    loaded = LoadedBases(2, EngineSettings(rows=4))
    names = Names({"small": str(base)}, {}, tmp_path / "jobs", frozenset({"live"}))
    yield ServedModels(names, loaded)
    loaded.close(0)


def _say(served: ServedModels, model: ServedModel | None) -> str:
    assert model is not None
    host = served.host(model)
    prompt = host.renderer.prompt(model.conversation([Message("user", "who is cat?")]))
    sampling = Sampling(max_tokens=8, temperature=0)
    request = Request(tuple(prompt), sampling, adapter=model.adapter)
    return "".join(piece.text for piece in host.decoder.submit(request))


def test_a_base_and_a_prompt_on_it(served: ServedModels, base: Path) -> None:
    plain = served.find(LOCAL, "small")
    prompt = Prompt("be a dog", decoding=Decoding(temperature=0.25, max_new_tokens=9))
    register_prompt("doggy", find_base(str(base)), prompt)
    found = served.find(LOCAL, "doggy")
    assert found is not None
    assert found.verdict == "unproven"
    assert found.defaults == {"temperature": 0.25, "top_p": 1.0, "max_tokens": 9}
    assert found.conversation([Message("user", "x")])[0].content == "be a dog"
    assert [model.id for model in served.models(LOCAL)] == ["small", "doggy"]
    assert [model.id for model in served.models("proj_other")] == ["small"]
    assert served.find("proj_other", "doggy") is None
    assert _say(served, plain)
    assert _say(served, found)
    assert len(served.loaded()) == 1  # both stand on one base


def test_a_tuned_model_and_its_alias(served: ServedModels, base: Path, tmp_path: Path) -> None:
    training = {"epochs": 3, "learning_rate": 0.05, "batch_tokens": 128}
    spec = write_project(tmp_path / "project", base, training=training)
    trained = train_project(load_project(spec), sink=no_sink)
    with open_registry() as registry, registry.writing() as session:
        model = find_model(session, trained.run.name)
        promote(session, model, "live", "for a test", is_forced=True)
    found, alias = served.find(LOCAL, trained.run.name), served.find(LOCAL, "live")
    assert found is not None
    assert alias is not None
    assert alias.details == {"stands_for": trained.run.name}
    assert [model.id for model in served.models("proj_other")] == ["small", "live"]
    assert served.find("proj_other", trained.run.name) is None
    assert served.find("proj_other", "live") == alias  # it is shared
    assert _say(served, found) == _say(served, alias) != _say(served, served.find(LOCAL, "small"))


def test_a_model_of_a_job_is_no_common_one(base: Path, tmp_path: Path) -> None:
    """What a job made is found by its own name and owner; an alias makes it common."""
    jobs = tmp_path / "jobs"
    spec = write_project(tmp_path / "project", base, training={"epochs": 1})
    trained = train_project(load_project(spec), out=jobs / "ftjob-x" / "ftjob-x", sink=no_sink)
    loaded = LoadedBases(1, EngineSettings(rows=4))
    served = ServedModels(Names({}, {}, jobs), loaded)
    assert served.find(LOCAL, trained.run.name) is None
    assert served.models(LOCAL) == []
    with open_registry() as registry, registry.writing() as session:
        promote(session, find_model(session, trained.run.name), "live", "why", is_forced=True)
    assert [model.id for model in served.models(LOCAL)] == ["live"]


@pytest.mark.parametrize("name", ["/etc", "..", "./small", "nobody", "", "a\x00b", "tiny"])
def test_names_are_no_paths(
    served: ServedModels, name: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base.parent)
    register_prompt("known", find_base(str(base)), Prompt("be a dog"))
    assert served.find(LOCAL, name) is None
    assert served.find(LOCAL, str(base)) is None
    assert served.find(LOCAL, "base") is None


def test_idle_bases_leave_for_others(base: Path, tmp_path: Path) -> None:
    loaded = LoadedBases(1, EngineSettings(rows=4))
    names = {"small": str(base), "tiny": find_base("tiny").address}
    served = ServedModels(Names(names, {}, tmp_path / "jobs"), loaded)
    try:
        for name in ("small", "tiny", "small"):
            assert _say(served, served.find(LOCAL, name)) is not None
            assert len(served.loaded()) == 1
    finally:
        loaded.close(0)
