"""What `/v1/chat/completions` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunefork.data import Message
from tunefork.serving.bodies import Body, Name, Part
from tunefork.serving.errors import invalid

Stop = str | Annotated[list[str], Field(max_length=4)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)]
Tokens = Annotated[int, Field(ge=1, le=2**31)]


class Function(Part):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part):
    """A tool."""

    type: Literal["function"]
    function: Function


class NamedFunction(Part):
    """The name of a function."""

    name: str


class NamedTool(Part):
    """The one tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


class TextFormat(Part):
    """Plain text."""

    type: Literal["text"]


class ObjectFormat(Part):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Part):
    """A JSON schema with a name."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class SchemaFormat(Part):
    """JSON of a schema; it is enforced, `strict` or not."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


Format = Annotated[TextFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")]


class CalledFunction(Part):
    """A call, as it was made."""

    name: str
    arguments: str


class CalledTool(Part):
    """A call, as it was made."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class TextPart(Part):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ChatMessage(Part):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    # What an answer of ours holds besides, so that it can be sent back as it came.
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    def text(self) -> str:
        """Return what it says."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or self.refusal or ""


class StreamOptions(Part):
    """How to stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatBody(Body):
    """A conversation to go on with, and how."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "metadata",
            "moderation",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "user",
        }
    )
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "modalities": (["text"],),
        "prediction": (),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
    }

    model: Name
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    frequency_penalty: Penalty | None = None
    logit_bias: Bias | None = None
    logprobs: bool | None = None
    max_completion_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    response_format: Format | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: TopP | None = None


def turns(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return a conversation as models are trained on it.

    Raises:
        ApiError: A turn says nothing.
    """
    found = []
    for at, message in enumerate(messages):
        calls = message.tool_calls or []
        if message.content is None and not calls and message.refusal is None:
            raise invalid("The message has no content.", f"messages.{at}.content")
        found.append(
            Message(
                role=message.role,
                content=message.text(),
                tool_calls=tuple(call.model_dump() for call in calls),
                tool_call_id=message.tool_call_id,
                name=message.name,
            )
        )
    return found


def stops(given: str | list[str] | None) -> tuple[str, ...]:
    """Return stop strings as a tuple.

    Raises:
        ApiError: One of them is empty.
    """
    found = (given,) if isinstance(given, str) else tuple(given or ())
    if not all(found):
        raise invalid("A stop string is empty.", "stop")
    return found
