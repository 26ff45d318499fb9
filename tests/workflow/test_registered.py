"""Registered models: prompts as models, what is asked of them, and how often a base is read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.projects import questions, small_probe, write_lines, write_project
from tests.small import save_model
from tunefork.core.errors import ModelError, Where
from tunefork.core.events import no_sink
from tunefork.core.hashing import hash_file
from tunefork.data import Example, Message, Renderer, load_tokenizer
from tunefork.inference import Decoding, generate
from tunefork.models import Base, find_base
from tunefork.models import base as base_module
from tunefork.registry import find_model as find_registered
from tunefork.registry import list_models, open_registry, promote, show_model
from tunefork.workflow import run as run_module
from tunefork.workflow.evaluate import evaluate
from tunefork.workflow.opened import open_model
from tunefork.workflow.registered import Prompt, register_prompt
from tunefork.workflow.run import run_project
from tunefork.workflow.spec import load_project
from tunefork.workflow.talk import Conversation

_PROMPT = Prompt(
    system="You answer in one word.",
    examples=(
        (Message("user", "What barks?"), Message("assistant", "Dogs.")),
        (Message("user", "What purrs?"), Message("assistant", "Cats.")),
    ),
    decoding=Decoding(max_new_tokens=12),
)
_ASKED = [Message("user", "Where do you sleep?")]


def _show(name: str) -> dict[str, Any]:
    with open_registry() as registry, registry.reading() as session:
        return show_model(session, name)


def test_a_prompt_answers_as_its_messages_by_hand_would() -> None:
    name = register_prompt("brief", find_base("tiny"), _PROMPT)
    opened = open_model(name)
    by_hand = open_model("tiny")
    turns = [Message("system", "You answer in one word.")]
    turns += [turn for example in _PROMPT.examples for turn in example]
    ids = Renderer(load_tokenizer(find_base("tiny").folder)).prompt([*turns, *_ASKED])
    (expected,) = generate(
        by_hand.chat.model, [ids], by_hand.chat.renderer.end_ids, Decoding(max_new_tokens=12)
    )
    assert opened.decoding.max_new_tokens == 12
    (answer,) = opened.chat.answer([_ASKED], opened.decoding)
    assert answer.text == opened.chat.renderer.parse(expected.ids)[0]
    # The prompt is seen at all, and its base is still there without it.
    (plain,) = by_hand.chat.answer([_ASKED], opened.decoding)
    assert answer.text != plain.text
    with opened.base_chat() as base:
        assert base.answer([_ASKED], opened.decoding) == [plain]
    row = Example((*_ASKED, Message("assistant", "In a box.")), Where("a test"))
    whole = Example(
        (*(Message(turn.role, turn.content, weight=0.0) for turn in turns), *row.messages),
        Where("a test"),
    )
    assert opened.chat.score([row]) == by_hand.chat.score([whole])
    assert opened.chat.score([row]) != by_hand.chat.score([row])


def test_a_system_turn_of_the_conversation_joins_the_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = open_model(register_prompt("brief", find_base("tiny"), _PROMPT))
    seen: list[list[dict[str, Any]]] = []

    def render(turns: list[dict[str, Any]], **_: object) -> str:
        seen.append(turns)
        return "x"

    monkeypatch.setattr(opened.chat.renderer.template, "render", render)
    opened.chat.answer([[Message("system", "Be kind."), *_ASKED]], Decoding(max_new_tokens=1))
    (turns,) = seen
    assert turns[0]["content"] == "You answer in one word.\n\nBe kind."
    assert [turn["role"] for turn in turns] == ["system", *("user", "assistant") * 2, "user"]


def test_the_same_prompt_is_one_model_and_another_gets_a_number() -> None:
    base = find_base("tiny")
    names = [register_prompt("p", base, _PROMPT) for _ in range(2)]
    names.append(register_prompt("p", base, Prompt(system="Be kind.")))
    assert names == ["p", "p", "p-2"]
    bundle = _show("p-2")["bundle"]
    assert (bundle["system_prompt"], bundle["examples"]) == ("Be kind.", None)
    assert bundle["base"]["licence"] == "Apache-2.0"


def test_a_prompt_is_promoted_asked_measured_and_talked_to(tmp_path: Path) -> None:
    register_prompt("brief", find_base("tiny"), _PROMPT)
    with open_registry() as registry, registry.writing() as session:
        promote(session, find_registered(session, "brief"), "live", "a trial", is_forced=True)
    golden = write_lines(tmp_path / "shop" / "golden.jsonl", questions(2))
    found = evaluate("live", golden, no_sink)
    shown = _show("brief")
    (noted,) = shown["evaluations"]
    assert noted["golden"] == "shop/golden@1"
    assert noted["scores"] == {"model": {key: found[key] for key in ("score", "low", "high")}}
    assert noted["verdict"] is None
    said = Conversation("live").ask("What barks?")
    assert said["base"] is not None


def test_a_prompt_on_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    folder = save_model("llama", tmp_path / "base")
    register_prompt("kind", find_base(str(folder)), Prompt(system="be kind"))
    assert open_model("kind").is_tuned is False
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="another version of its base"):
        open_model("kind")


def test_what_the_registry_does_not_know_is_measured_without_it(tmp_path: Path) -> None:
    golden = write_lines(tmp_path / "golden.jsonl", questions(2))
    evaluate("tiny", golden, no_sink)
    register_prompt("kind", find_base("tiny"), Prompt(system="be kind"))
    evaluate("tiny", golden, no_sink)
    with open_registry() as registry, registry.reading() as session:
        assert [each["score"] for each in list_models(session)] == [None]


def test_a_project_is_no_model_and_its_newest_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "general_probe", small_probe)
    base = save_model("llama", tmp_path / "base")
    spec = write_project(
        tmp_path / "shop", base, strategy="lora", training={"epochs": 1, "batch_tokens": 256}
    )
    with pytest.raises(ModelError, match="is a project") as caught:
        open_model(str(spec.parent))
    assert caught.value.hint == f"make one: tunefork run {spec.parent}"
    reads = _count_reads(monkeypatch)
    result = run_project(load_project(spec), sink=no_sink)
    # Before, after training and after measuring; what lies between is remembered.
    assert set(reads.values()) == {3}
    assert reads.keys() == {path.name for path in Base("base", base).files}
    with pytest.raises(ModelError, match="is a project") as caught:
        open_model(str(spec.parent))
    assert caught.value.hint == f"its newest run is `{result['run']}`"
    with (
        open_registry() as registry,
        registry.reading() as session,
        pytest.raises(ModelError) as caught,
    ):
        find_registered(session, str(spec.parent))
    assert caught.value.hint == f"this is a project; its newest run is `{result['run']}`"
    page = Path(result["report"]).read_text()
    assert page.count('<svg xmlns="http://www.w3.org/2000/svg" class="lineage"') == 2
    for part in ("base", "data (train)", "settings", "seed", "code", "environment"):
        assert f">{part}</text>" in page


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    reads: Counter[str] = Counter()

    def counted(path: Path) -> str:
        reads[path.name] += 1
        return hash_file(path)

    monkeypatch.setattr(base_module, "hash_file", counted)
    return reads


def test_a_base_that_is_written_to_is_read_again(tmp_path: Path) -> None:
    folder = save_model("llama", tmp_path / "base")
    base = find_base(str(folder))
    first = base.hash()
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert base.hash() == base.hash_anew() != first
