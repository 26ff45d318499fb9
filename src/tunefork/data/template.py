"""Chat templates: Jinja programs that write a conversation as one text.

They come with a model, so they run in a sandbox. Given the same conversation the text is
exactly what transformers' `apply_chat_template(..., tokenize=False)` writes, with one
difference: "now" is a given date, so that the same row is the same tokens on every day.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jinja2
from jinja2 import meta, nodes, utils
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunefork.core.errors import DataError, ModelError, Where

# For a base that brings none. The begin token stands where the tokenizer itself would put it.
# The answer's leading space belongs to the answer: its first word then is the same token in
# training and when the model writes it.
DEFAULT_TEMPLATE = """\
{%- if adds_bos %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{%- if not loop.first %}{{ '\\n' }}{% endif %}
{%- if message.tool_calls %}
{{- raise_exception('this base has no format for tool calls') }}
{%- endif %}
{{- message.role | capitalize }}: {{ message.content | trim }}
{%- if message.role == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '\\nAssistant:' }}{% endif %}
"""

# What foreign template code can raise while it runs, besides Jinja's own errors.
_TEMPLATE_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """A compiled template with its special tokens and its date.

    Raises:
        ModelError: where the template is not valid Jinja.
    """

    def __init__(
        self, source: str, *, special_tokens: Mapping[str, object], date: datetime.date
    ) -> None:
        self._variables = dict(special_tokens)
        self._source, self._date = source, date
        self._is_asked_for_tools = False
        try:
            environment = _environment(date)
            self._is_asked_for_tools = "tools" in meta.find_undeclared_variables(
                environment.parse(source)
            )
            # Names as a plain dict: what `from_string` chains is copied slowly for every row.
            self._template = jinja2.Template.from_code(
                environment, environment.compile(source), dict(environment.globals)
            )
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template is not valid: {error.message} (its line {error.lineno})",
                where="chat template",
                hint="correct `chat_template.jinja` in the model folder",
            ) from error

    @property
    def source(self) -> str:
        """The template as it was given."""
        return self._source

    @property
    def takes_tools(self) -> bool:
        """Whether tools that are offered show up in the text."""
        return self._is_asked_for_tools

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
        where: Where | None = None,
    ) -> str:
        """Return the conversation as text.

        Raises:
            DataError: where the template refuses the conversation, or fails on it.
        """
        try:
            return self._template.render(
                self._variables,
                messages=[_with_thinking(message) for message in messages],
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
        except _Refusal as error:
            raise DataError(
                f"the model's chat template refuses this conversation: {error.message}",
                where=where,
                hint="change the order or the roles of its turns to what this model allows",
            ) from error
        except _TEMPLATE_FAULTS as error:
            raise DataError(
                f"the model's chat template fails on this conversation: {error}",
                where=where,
                hint="the template may not know a role or a field of this row; remove it",
            ) from error

    def identity(self) -> list[object]:
        """Return plain data that is equal where two templates write the same."""
        return [jinja2.__version__, self._source, self._variables, self._date.isoformat()]


def _with_thinking(message: Mapping[str, Any]) -> Mapping[str, Any]:
    # Some families read the reasoning under its older name.
    if "reasoning_content" in message:
        return {"thinking": message["reasoning_content"], **message}
    return message


class _Refusal(jinja2.TemplateError):
    """The template itself called `raise_exception`."""


class _Generation(Extension):
    """Accept `{% generation %}…{% endgeneration %}`; the text inside is written as it is."""

    tags = {"generation"}  # noqa: RUF012  # the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call, so that variables set inside stay inside, as they do in transformers.
        return nodes.CallBlock(self.call_method("_write"), [], [], body).set_lineno(line)

    def _write(self, caller: Any) -> str:  # Jinja's macro object, untyped
        return str(caller())


class _Namespace(utils.Namespace):
    """Jinja's namespace without names that begin with an underscore."""

    def __init__(*arguments: Any, **values: Any) -> None:  # any names, `self` among them
        self, *rest = arguments
        held = dict(*rest, **values)
        for name in held:
            _check_public(name)
        utils.Namespace.__init__(self, held)

    def __setitem__(self, name: str, value: Any) -> None:  # any template value
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold the name {name!r}")


class _Dict:
    """`dict` as a function only, so that a template cannot reach the class."""

    def __call__(self, *arguments: Any, **values: Any) -> dict[Any, Any]:
        return dict(*arguments, **values)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _environment(date: datetime.date) -> ImmutableSandboxedEnvironment:
    now = datetime.datetime.combine(date, datetime.time())
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda layout: now.strftime(layout)  # no way to `now`
    environment.globals["namespace"] = _Namespace
    environment.globals["dict"] = _Dict()
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise _Refusal(message)


def _to_json(
    value: Any,  # any template value
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML characters and sorts keys.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
