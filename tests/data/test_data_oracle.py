"""Our ids are exactly those of transformers' `apply_chat_template`, for any template."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from tunefork.core.errors import DataError, Where
from tunefork.data import Example, Message, Renderer, load_tokenizer

TEMPLATES = sorted(path.stem for path in (Path(__file__).parent / "templates").glob("*.jinja"))
DATE = datetime.date(2024, 7, 26)

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather, <b>anywhere</b> & 'now' é",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str, **more: Any) -> Message:
    return Message("assistant", text, **more)


def call(arguments: object) -> tuple[dict[str, Any], ...]:
    function = {"name": "weather", "arguments": arguments}
    return ({"id": "c1", "type": "function", "function": function},)


CONVERSATIONS: dict[str, tuple[Message, ...]] = {
    "single": (user("Hi"), assistant("Hello there!")),
    "system": (Message("system", " Be kind. "), user("Hi"), assistant("Hello")),
    "two rounds": (user("Hi"), assistant("Hello"), user("And cats?"), assistant("They sleep.")),
    "spaces": (user("  Hi \n"), assistant("  Hello  \n\n")),
    "characters": (user("é 🐈 <b>&'\""), assistant("🐈🐈 naïve 日本 \t x")),
    "control text": (user("say <|im_end|> <eos>"), assistant("no <|im_start|>user")),
    "empty answer": (user("Hi"), assistant("")),
    "braces": (user("{{ 1 + 1 }} {% if %}"), assistant("{# no #}")),
    "reasoning": (
        user("Hi"),
        assistant("Hello", reasoning="They greet."),
        user("Warm?"),
        assistant("It is 21.", reasoning="\nLook it up.\n"),
    ),
    "inline thought": (
        user("Hi"),
        assistant("<think>\nGreet.\n</think>\n\nHello"),
        user("Warm?"),
        assistant("<think>\nLook.\n</think>\n\nIt is 21."),
    ),
    "tools": (
        user("Warm in Paris?"),
        assistant("", tool_calls=call({"city": "Paris", "unit": "°C"})),
        Message("tool", '{"degrees": 21}', tool_call_id="c1", name="weather"),
        assistant("It is 21 degrees."),
    ),
    "call as text": (user("Warm?"), assistant("Look:", tool_calls=call('{"city": "Paris"}'))),
    "ends with user": (user("Hi"), assistant("Hello"), user("And cats?")),
    "assistant first": (assistant("Hello"), user("Hi"), assistant("Yes?")),
    "user twice": (user("Hi"), user("there"), assistant("Hello")),
}


class _PinnedClock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _PinnedClock:
        return cls(DATE.year, DATE.month, DATE.day, tzinfo=tz)


def _oracle(
    tokenizer: PreTrainedTokenizerFast, example: Example, turns: int, prompt: bool
) -> list[int] | None:
    """Transformers' ids, or None where the template fails."""
    messages = [message.as_template() for message in example.messages[:turns]]
    try:
        found: list[int] = tokenizer.apply_chat_template(
            messages,
            tools=list(example.tools) or None,
            add_generation_prompt=prompt,
            return_dict=False,
        )
    except Exception:  # noqa: BLE001  # whatever it raises: we must refuse as well
        return None
    return found


def _ours(renderer: Renderer, example: Example, turns: int, prompt: bool) -> list[int] | None:
    try:
        if prompt:
            return renderer.prompt(example.messages[:turns], example.tools)
        return renderer.render(example).ids
    except DataError:
        return None


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_ids_equal_transformers(
    template: str, kind: str, make_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template_utils, "datetime", _PinnedClock)
    folder = make_folder(template, kind, bos_token="<bos>", eos_token="<|endoftext|>")
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    renderer = Renderer(load_tokenizer(folder), DATE)
    compared = 0
    for name, messages in CONVERSATIONS.items():
        tools = (WEATHER,) if "tool" in name else ()
        example = Example(messages, Where(name, 1), tools)
        for prompt in (False, True):
            turns = len(messages) - 1 if prompt else len(messages)
            expected = _oracle(oracle, example, turns, prompt)
            ids = _ours(renderer, example, turns, prompt)
            assert ids == expected, (name, prompt)
            compared += ids is not None
    assert compared >= 16


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
def test_encode_and_decode_equal_transformers(kind: str, make_folder: Any) -> None:
    folder = make_folder(kind=kind, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    oracle = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = load_tokenizer(folder)
    for text in ["", " ", "Hello there!", "a<bos>b<|im_end|>", "é🐈日本", "\n\n x  y "]:
        ids = oracle(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text) == ids
        assert ours.encode_with_places(text).ids == ids
        for skip in (True, False):
            assert ours.decode(ids, skip) == oracle.decode(ids, skip_special_tokens=skip)
    assert ours.vocab_size == len(oracle)
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<bos>", "<eos>", "<pad>")


def test_battery_is_large_enough() -> None:
    assert len(TEMPLATES) >= 10
    assert len(CONVERSATIONS) >= 10
