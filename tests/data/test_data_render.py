"""What is trained in a rendered conversation, against expectations written by hand."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from tunefork.core.errors import DataError, ModelError, Where
from tunefork.data import Example, Message, Rendered, Renderer, Tokenizer, load_tokenizer, preview

DATE = datetime.date(2024, 7, 26)


def _call(name: str) -> tuple[dict[str, Any], ...]:
    return ({"type": "function", "function": {"name": name, "arguments": {"city": "Paris"}}},)


def _trained(rendered: Rendered, tokenizer: Tokenizer) -> list[str]:
    """The trained stretches of a row, each as text."""
    stretches: list[str] = []
    was_trained = False
    for text, is_trained in preview([rendered], tokenizer)[0]:
        if is_trained:
            if not was_trained:
                stretches.append("")
            stretches[-1] += text
        was_trained = is_trained
    return stretches


def _u(text: str) -> Message:
    return Message("user", text)


def _a(text: str, **more: Any) -> Message:
    return Message("assistant", text, **more)


TWO = (_u("Hi"), _a("Hello"), _u("And cats?"), _a("They sleep."))
THOUGHTS = (_u("Hi"), _a("Hello", reasoning="Greet."), _u("Warm?"), _a("Yes", reasoning="Look."))
INLINE = (
    _u("Hi"),
    _a("<think>\nA\n</think>\n\nHello"),
    _u("Warm?"),
    _a("<think>\nB\n</think>\n\nYes"),
)
TOOLS = (_u("Warm?"), _a("", tool_calls=_call("weather")), Message("tool", "21"), _a("It is 21."))

CASES = [
    ("chatml_default_system", TWO, ["Hello<|im_end|>", "They sleep.<|im_end|>"]),
    ("chatml_default_system", (_u("Hi"), _a("  Hello \n")), ["  Hello \n<|im_end|>"]),
    ("chatml_default_system", (_u("Hello"), _a("Hello")), ["Hello<|im_end|>"]),
    ("chatml_default_system", (_u("x"), _a("é🐈")), ["é🐈<|im_end|>"]),
    ("chatml_default_system", (_a("Hello"), _u("Hi")), ["Hello<|im_end|>"]),
    (
        "system_in_first_user",
        (Message("system", "Be kind."), *TWO),
        ["Hello<end_of_turn>", "They sleep.<end_of_turn>"],
    ),
    ("system_in_first_user", (_u("Hi"), _a("  Hello \n")), ["Hello<end_of_turn>"]),
    ("dated_header", TWO, ["Hello<|eot|>", "They sleep.<|eot|>"]),
    (
        "dated_header",
        TOOLS,
        ['{"name": "weather", "arguments": {"city": "Paris"}}<|eot|>', "It is 21.<|eot|>"],
    ),
    (
        "thought_kept_in_last",
        THOUGHTS,
        ["Hello<|im_end|>", "<think>\nLook.\n</think>\n\nYes<|im_end|>"],
    ),
    (
        "thought_kept_in_last",
        INLINE,
        ["Hello<|im_end|>", "<think>\nB\n</think>\n\nYes<|im_end|>"],
    ),
    (
        "thought_kept_in_last",
        TOOLS,
        [
            '<think>\n\n</think>\n\n<tool_call>\n{"name": "weather", "arguments": '
            '{"city": "Paris"}}\n</tool_call><|im_end|>',
            "<think>\n\n</think>\n\nIt is 21.<|im_end|>",
        ],
    ),
    ("thought_opened_by_prompt", TWO, ["Hello<|endoftext|>", "They sleep.<|endoftext|>"]),
    ("thought_opened_by_prompt", INLINE, ["\n\nHello<|endoftext|>", "\n\nYes<|endoftext|>"]),
    ("bracketed", TWO, [" Hello <eos>", " They sleep. <eos>"]),
    ("generation_blocks", TWO, ["Hello<|im_end|>", "They sleep.<|im_end|>"]),
    ("role_tokens_end_turns", TWO, ["Hello<|user|>", "They sleep."]),
    ("eos_after_every_turn", TWO, ["Hello<eos>", "They sleep.<eos>"]),
    ("plain_headings", TWO, ["Hello<eos>", "They sleep.<eos>"]),
    ("channels", TWO, ["Hello", "They sleep.<|endoftext|>"]),
    (
        "channels",
        THOUGHTS,
        ["Hello", "thinks: Look.<|end|><|assistant|>Yes<|endoftext|>"],
    ),
    (
        "channels",
        TOOLS,
        ['calls: weather{"city": "Paris"}<|call|>', "It is 21.<|endoftext|>"],
    ),
]
SETTINGS: dict[str, dict[str, Any]] = {
    "role_tokens_end_turns": {"files": {"generation_config.json": {"eos_token_id": [4, 13]}}},
    "channels": {"files": {"generation_config.json": {"eos_token_id": [4, 17]}}},
}


@pytest.mark.parametrize(("template", "messages", "expected"), CASES)
def test_trained_text(
    template: str, messages: tuple[Message, ...], expected: list[str], make_folder: Any
) -> None:
    settings = {"bos_token": "<bos>", "eos_token": "<eos>", **SETTINGS.get(template, {})}
    tokenizer = load_tokenizer(make_folder(template, **settings))
    renderer = Renderer(tokenizer, DATE)
    rendered = renderer.render(Example(messages, Where("rows", 1)))
    assert _trained(rendered, tokenizer) == expected


@pytest.mark.parametrize("template", ["chatml_default_system", "bracketed", None])
def test_pieces_train_the_same_text(template: str | None, make_folder: Any) -> None:
    tokenizer = load_tokenizer(
        make_folder(template, "pieces", bos_token="<bos>", eos_token="<eos>")
    )
    rendered = Renderer(tokenizer, DATE).render(Example(TWO, Where("rows", 1)))
    found = [text.strip() for text in _trained(rendered, tokenizer)]
    end = "<|im_end|>" if template == "chatml_default_system" else "<eos>"
    assert [text.removesuffix(end).strip() for text in found] == ["Hello", "They sleep."]


def test_weight_zero_is_untrained_with_its_end(make_folder: Any) -> None:
    tokenizer = load_tokenizer(make_folder("chatml_default_system"))
    messages = (_u("Hi"), _a("Hello", weight=0.0), _u("And cats?"), _a("They sleep."))
    rendered = Renderer(tokenizer, DATE).render(Example(messages, Where("rows", 1)))
    assert _trained(rendered, tokenizer) == ["They sleep.<|im_end|>"]
    assert set(rendered.weights) == {0.0, 1.0}


def test_fractional_weight_reaches_every_token_of_the_turn(make_folder: Any) -> None:
    tokenizer = load_tokenizer(make_folder("chatml_default_system"))
    messages = (_u("Hi"), _a("Hello", weight=0.5), _u("And cats?"), _a("They sleep."))
    weights = Renderer(tokenizer, DATE).render(Example(messages, Where("rows", 1))).weights
    n_half = len(tokenizer.encode("Hello")) + 1
    assert weights.count(0.5) == n_half


def test_default_template(make_folder: Any) -> None:
    tokenizer = load_tokenizer(make_folder(kind="pieces", bos_token="<bos>", eos_token="<eos>"))
    assert tokenizer.adds_bos
    renderer = Renderer(tokenizer, DATE)
    messages = [Message("system", "Be kind."), _u("Hi"), _a(" Hello "), _u("Bye")]
    turns = [message.as_template() for message in messages]
    expected = "<bos>System: Be kind.\nUser: Hi\nAssistant: Hello<eos>\nUser: Bye\nAssistant:"
    assert renderer.template.render(turns, add_generation_prompt=True) == expected
    no_bos = load_tokenizer(make_folder(bos_token="<bos>", eos_token="<eos>"))
    assert Renderer(no_bos).template.render(turns[1:2]) == "User: Hi"
    with pytest.raises(DataError, match="tool calls"):
        renderer.prompt([_u("Hi"), _a("", tool_calls=_call("weather"))])


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize(
    "template", ["chatml_default_system", "system_in_first_user", "eos_after_every_turn", None]
)
def test_prompt_is_how_the_trained_row_begins(
    template: str | None, kind: str, make_folder: Any
) -> None:
    tokenizer = load_tokenizer(make_folder(template, kind, bos_token="<bos>", eos_token="<eos>"))
    renderer = Renderer(tokenizer, DATE)
    example = Example(TWO, Where("rows", 1))
    rendered = renderer.render(example)
    prompt = renderer.prompt(example.prompt)
    assert rendered.ids[: len(prompt)] == prompt
    answer = rendered.ids[len(prompt) :]
    assert renderer.parse(answer) == ("They sleep.", "stop")
    ends = [at for at, key in enumerate(answer) if key in renderer.end_ids]
    assert renderer.parse(answer[: ends[0]]) == ("They sleep.", "length")
    assert rendered.weights[len(prompt) :][: ends[0] + 1] == [1.0] * (ends[0] + 1)
    assert not any(rendered.weights[len(prompt) + ends[0] + 1 :])


def test_end_ids_hold_what_the_template_writes_behind_a_turn(make_folder: Any) -> None:
    tokenizer = load_tokenizer(make_folder("system_in_first_user", eos_token="<eos>"))
    names = {tokenizer.token_text(key) for key in Renderer(tokenizer).end_ids}
    assert names == {"<eos>", "<end_of_turn>"}


def test_parse_of_nothing(make_folder: Any) -> None:
    renderer = Renderer(load_tokenizer(make_folder("chatml_default_system")))
    assert renderer.parse([]) == ("", "length")
    assert renderer.parse(sorted(renderer.end_ids)) == ("", "stop")


def test_date_is_pinned_and_defaults_to_today(make_folder: Any) -> None:
    tokenizer = load_tokenizer(make_folder("dated_header", bos_token="<bos>"))
    turns = [_u("Hi").as_template()]
    assert "Today: 26 Jul 2024" in Renderer(tokenizer, DATE).template.render(turns)
    assert "Today: " in Renderer(tokenizer).template.render(turns)


def test_refusal_names_the_row_and_the_reason(make_folder: Any) -> None:
    renderer = Renderer(load_tokenizer(make_folder("bracketed", bos_token="<bos>")))
    with pytest.raises(DataError) as caught:
        renderer.render(Example((_u("Hi"), _u("Hi"), _a("Yes")), Where("rows.jsonl", 7)))
    assert "must alternate" in caught.value.message
    assert str(caught.value.where) == "rows.jsonl:7"
    assert caught.value.hint


def test_half_a_character_is_refused(make_folder: Any) -> None:
    renderer = Renderer(load_tokenizer(make_folder("chatml_default_system")))
    with pytest.raises(DataError, match="half a character"):
        renderer.render(Example((_u("\ud800"), _a("Yes")), Where("rows.jsonl", 7)))


def test_turn_that_the_template_drops_is_refused(make_folder: Any) -> None:
    folder = make_folder()
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    renderer = Renderer(load_tokenizer(folder))
    with pytest.raises(DataError, match="does not show turn 2") as caught:
        renderer.render(Example((_u("Hi there"), _a("Hello")), Where("rows.jsonl", 3)))
    assert str(caught.value.where) == "rows.jsonl:3"


def test_broken_template_is_a_model_error(make_folder: Any) -> None:
    folder = make_folder()
    (folder / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(ModelError, match="not valid") as caught:
        Renderer(load_tokenizer(folder))
    assert caught.value.hint


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ dict.__class__.__mro__ }}",
        "{{ strftime_now.__globals__['os'] }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[9].content.x }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_hostile_or_failing_template_is_contained(source: str, make_folder: Any) -> None:
    folder = make_folder()
    (folder / "chat_template.jinja").write_text(source)
    with pytest.raises(DataError) as caught:
        Renderer(load_tokenizer(folder)).prompt([_u("Hi")])
    assert caught.value.hint
