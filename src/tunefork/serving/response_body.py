"""What `/v1/responses` takes: text in, text out, nothing kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunefork.data import Message
from tunefork.serving.bodies import Body, Metadata, Name, Part
from tunefork.serving.chat_body import Temperature, Tokens, TopP
from tunefork.serving.errors import invalid


class InputText(Part):
    """A piece of text."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    # What an answer of ours holds besides.
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(Part):
    """A turn."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]
    id: str | None = None
    status: str | None = None

    def message(self) -> Message:
        """Return it as models are trained on it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return Message(self.role, text)


class PlainText(Part):
    """Plain text."""

    type: Literal["text"]


class PlainObject(Part):
    """Any JSON object."""

    type: Literal["json_object"]


class Schema(Part):
    """JSON of a schema."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Part):
    """What the text must be."""

    format: Annotated[PlainText | PlainObject | Schema, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class ResponseBody(Body):
    """A conversation to go on with, and how."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
            "stream_options",
            "user",
        }
    )
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "background": (False,),
        "context_management": ([],),
        "conversation": (),
        "include": ([],),
        "max_tool_calls": (),
        "previous_response_id": (),
        "prompt": (),
        "reasoning": ({},),
        "tool_choice": ("auto", "none"),
        "tools": ([],),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    model: Name
    input: str | Annotated[list[InputMessage], Field(min_length=1, max_length=2048)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    metadata: Metadata | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    temperature: Temperature | None = None
    text: TextConfig | None = None
    top_p: TopP | None = None

    def turns(self) -> list[Message]:
        """Return the conversation.

        Raises:
            ApiError: There is nothing in it.
        """
        if isinstance(self.input, str):
            if not self.input:
                raise invalid("The input is empty.", "input")
            found = [Message("user", self.input)]
        else:
            found = [each.message() for each in self.input]
        before = [Message("system", self.instructions)] if self.instructions else []
        return [*before, *found]
