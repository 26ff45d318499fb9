"""Tools in and out, for the three ways in which models write calls."""

from __future__ import annotations

import datetime
import json

import jsonschema
import pytest

from tunefork.data import DEFAULT_TEMPLATE, ChatTemplate
from tunefork.serving.tools import Style, ToolCall, call_schema, may_be_call, style_of, take_apart

_NAMES = frozenset({"weather"})
_CALL = ToolCall("weather", '{"city": "Bern"}')
_TAGGED = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def _template(source: str) -> ChatTemplate:
    return ChatTemplate(source, special_tokens={}, date=datetime.date(2024, 1, 1))


@pytest.mark.parametrize(
    ("source", "style"),
    [
        (DEFAULT_TEMPLATE.replace("adds_bos", "false"), None),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
        ("{% if tools %}{{ tools | tojson }} Use <tool_call>.{% endif %}", "tags"),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", "list"),
        ("{% if tools is defined %}{{ tools }}{% endif %}", "object"),
    ],
)
def test_the_template_says_how_calls_are_written(source: str, style: Style | None) -> None:
    assert style_of(_template(source)) == style


@pytest.mark.parametrize(
    ("text", "style", "rest"),
    [
        (_TAGGED, "tags", ""),
        (f"Let me look.\n{_TAGGED}", "tags", "Let me look."),
        (_TAGGED.removesuffix("</tool_call>"), "tags", ""),
        ('[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Bern"}}]', "list", ""),
        ('[{"name": "weather", "arguments": {"city": "Bern"}}]', "list", ""),
        ('{"name": "weather", "parameters": {"city": "Bern"}}', "object", ""),
        ('<|python_tag|>{"name": "weather", "parameters": {"city": "Bern"}}', "object", ""),
    ],
)
def test_calls_are_read(text: str, style: Style, rest: str) -> None:
    found = take_apart(text, style, _NAMES)
    assert found.calls == (_CALL,)
    assert found.text == rest
    assert all(may_be_call(text[:end], style) for end in range(len(_TAGGED) // 4)) or rest


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("It rains.", "tags"),
        ("<tool_call>nonsense</tool_call>", "tags"),
        ('<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', "tags"),
        ('{"name": "weather", "parameters": 5}', "object"),
        ('{"answer": 42}', "object"),
        ("[1, 2]", "list"),
    ],
)
def test_what_is_no_call_is_text(text: str, style: Style) -> None:
    found = take_apart(text, style, _NAMES)
    assert (found.text, found.calls) == (text, ())


def test_plain_text_is_streamed_at_once() -> None:
    styles: tuple[Style, ...] = ("tags", "list", "object")
    for style in styles:
        assert not may_be_call("It rains", style)


def test_a_call_that_must_come_has_a_schema() -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    for tools in ([tool], [tool, tool]):
        schema = call_schema(tools)
        jsonschema.validate({"name": "weather", "arguments": json.loads(_CALL.arguments)}, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "other", "arguments": {}}, schema)
