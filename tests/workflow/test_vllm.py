"""vLLM as the engine, by a stand-in that speaks its endpoints; see `vllm_stand_in`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving.fakes import FakeDecoder, context_of, live, until
from tests.small import save_model
from tests.workflow.vllm_stand_in import VllmStandIn
from tunefork.core.errors import InputError
from tunefork.core.files import write_json
from tunefork.models import find_base
from tunefork.serving.app import create_app
from tunefork.serving.catalogue import Catalogue, ServedModel
from tunefork.serving.guard import Access
from tunefork.workflow.served_models import Names, ServedModels
from tunefork.workflow.service import Address
from tunefork.workflow.vllm import VllmHosts
from tunefork.workflow.vllm_adapters import adapter_name, check_servable

_TURN: Any = [{"role": "user", "content": "who is cat?"}]


def _adapter(folder: Path, base: Path, **config: Any) -> Path:
    """Write what a job would leave, with bytes of its own in the place of weights."""
    folder.mkdir(parents=True)
    found = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", **config}
    write_json(folder / "adapter_config.json", found)
    (folder / "adapter_model.safetensors").write_bytes(folder.name.encode())
    card = {"base": str(base), "base_hash": find_base(str(base)).hash(), "date": None}
    write_json(folder / "tunefork.json", card)
    return folder


@dataclass
class Tuned:
    """Models of jobs, by name."""

    backend: ServedModels
    folders: dict[str, Path] = field(default_factory=dict)

    def tuned_models(self, owner: str) -> list[ServedModel]:
        return [self.backend.tuned(*each, 1, "ship") for each in self.folders.items()]

    def find_tuned(self, owner: str, name: str) -> ServedModel | None:
        folder = self.folders.get(name)
        return self.backend.tuned(name, folder, 1, "ship") if folder is not None else None

    def delete_tuned(self, owner: str, name: str) -> bool:
        model = self.find_tuned(owner, name)
        if model is not None:
            self.backend.forget(model)
        return self.folders.pop(name, None) is not None


@dataclass
class World:
    """A server of ours before a stand-in for vLLM."""

    engine: VllmStandIn
    hosts: VllmHosts
    tuned: Tuned
    client: openai.OpenAI
    base: Path
    folder: Path

    def add(self, name: str, **config: Any) -> str:
        path = self.folder / name
        path = path if path.is_dir() else _adapter(path, self.base, **config)
        self.tuned.folders[f"ft:small:local::{name}"] = path
        return f"ft:small:local::{name}"

    def ask(self, model: str, **more: Any) -> Any:
        create = self.client.chat.completions.create
        return create(model=model, messages=_TURN, **{"max_tokens": 20, **more})

    def say(self, model: str) -> str:
        return str(self.ask(model).choices[0].message.content)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("vllm")
    base = save_model("llama", folder / "base")
    engine = VllmStandIn()
    with live(engine.app()) as url:
        hosts = VllmHosts(Address(url, None, "NONE"), {"small": str(base)}, 2)
        backend = ServedModels(Names({"small": str(base)}, {}, folder / "jobs"), hosts)
        tuned = Tuned(backend)
        with context_of(folder / "serving", FakeDecoder(lambda request: "")) as context:
            context = dataclasses.replace(context, catalogue=Catalogue(backend, tuned))
            with (
                live(create_app(context, Access())) as ours,
                openai.OpenAI(base_url=ours, api_key="none", max_retries=0) as client,
            ):
                yield World(engine, hosts, tuned, client, base, folder)
        hosts.close(0)


@pytest.fixture
def world(served: World) -> World:
    served.engine.is_away, served.engine.holds = False, None
    served.engine.asked.clear()
    served.engine.calls.clear()
    return served


def test_base_and_adapter_answer_by_our_names(world: World) -> None:
    cat = world.add("cat")
    assert world.say("small") == "base"
    answer = world.ask(cat, temperature=0.5, seed=3, logprobs=True, top_logprobs=1, stop=["x"])
    assert answer.model == cat
    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("cat", "stop")
    assert [len(each.top_logprobs) for each in choice.logprobs.content] == [1, 1, 1]
    asked = world.engine.asked[-1]
    assert answer.usage.prompt_tokens == len(asked["prompt"])
    assert (answer.usage.completion_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (
        3,
        2,
    )
    assert (asked["temperature"], asked["seed"], asked["stop"]) == (0.5, 3, ["x"])
    assert asked["model"] == adapter_name(world.folder / "cat")
    assert world.engine.adapters == {asked["model"]: str(world.folder / "cat")}
    chunks = list(world.ask(cat, stream=True, stream_options={"include_usage": True}))
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == "cat"
    assert len(chunks) >= 5  # letter by letter
    assert chunks[-1].usage.completion_tokens == 3
    assert world.ask(cat, max_tokens=2).choices[0].finish_reason == "length"
    model = world.client.models.retrieve(cat)
    assert (model.model_extra or {})["verdict"] == "ship"


def test_the_form_of_an_answer_is_handed_on(world: World) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    world.ask("small", response_format=form)
    assert world.engine.asked[-1]["structured_outputs"] == {"json": schema}


def test_few_adapters_are_held_and_those_in_use_stay(world: World) -> None:
    names = [world.add(each) for each in ("ann", "bob", "eve")]
    assert [world.say(name) for name in names] == ["ann", "bob", "eve"]
    assert len(world.engine.adapters) == 2
    world.engine.calls.clear()
    assert world.say(names[1]) == "bob"
    assert "POST /v1/load_lora_adapter" not in world.engine.calls  # it was there
    world.engine.holds = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(world.say, name) for name in names[1:]]
        until(lambda: len(world.engine.asked) >= 6)
        late = pool.submit(world.say, names[0])
        until(lambda: len(world.hosts.all()) == 1)
        assert not late.done()
        assert {Path(path).name for path in world.engine.adapters.values()} == {"bob", "eve"}
        world.engine.holds.set()
        assert [each.result() for each in (*busy, late)] == ["bob", "eve", "ann"]
    world.client.models.delete(names[0])
    assert "ann" not in {Path(path).name for path in world.engine.adapters.values()}


def test_an_engine_that_goes_away_comes_back_by_itself(world: World) -> None:
    cat = world.add("cat")
    assert world.say(cat) == "cat"
    world.engine.is_away = True
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as raised:
            world.ask(cat, stream=stream)
        assert raised.value.status_code == 503
        assert raised.value.response.headers["retry-after"]
    assert not world.hosts.all()[0].decoder.stats().is_alive
    assert world.client.models.list().data  # the rest is served as ever
    world.engine.is_away = False
    world.engine.adapters.clear()  # it began anew
    assert world.say(cat) == "cat"
    # And where nobody saw that it began anew.
    world.engine.adapters.clear()
    assert world.say(cat) == "cat"
    assert world.hosts.all()[0].decoder.stats().is_alive


def test_an_engine_that_was_never_there(world: World) -> None:
    hosts = VllmHosts(Address("http://127.0.0.1:9/v1", None, "NONE"), {"small": "x"}, 2)
    assert hosts.all() == []
    hosts.close(0)


def test_what_vllm_does_not_know_is_said(world: World) -> None:
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "dora": ({"use_dora": True}, "DoRA"),
        "headed": ({"modules_to_save": ["score"]}, "heads"),
        "prefixed": ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        "ranked": ({"rank_pattern": {"q_proj": 8}}, "ranks of their own"),
        "wide": ({"r": 64}, "max_lora_rank 16"),
    }
    for name, (config, words) in cases.items():
        with pytest.raises(openai.BadRequestError, match=words) as raised:
            world.say(world.add(name, **config))
        assert str(world.folder) not in raised.value.message
    with pytest.raises(InputError, match="LoRA alone"):
        check_servable(world.folder / "dora")
    assert world.say(world.add("cat")) == "cat"  # others go on


def test_an_engine_without_updates_at_run_time(world: World) -> None:
    engine = VllmStandIn(updates_at_run_time=False)
    with live(engine.app()) as url:
        hosts = VllmHosts(Address(url, None, "NONE"), {"small": str(world.base)}, 2)
        backend = ServedModels(Names({"small": str(world.base)}, {}, world.folder), hosts)
        model = backend.tuned("ft:x", _adapter(world.folder / "x", world.base), 1, "ship")
        host = backend.host(model)
        ticket = host.decoder.submit(_request(model))
        with pytest.raises(InputError, match="no adapters at run time") as raised:
            list(ticket)
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in (raised.value.hint or "")
        hosts.close(0)


def _request(model: ServedModel) -> Any:
    from tunefork.inference.engine import Request, Sampling

    return Request((4, 5), Sampling(max_tokens=3), adapter=model.adapter, owner="x")
