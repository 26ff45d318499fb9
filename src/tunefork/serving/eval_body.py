"""What `/v1/evals` takes: graders, and where answers come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunefork.serving.bodies import Body, Metadata, Name, Part
from tunefork.serving.chat_body import Seed, Temperature, Tokens, TopP

_MOST_ROWS = 10_000


class CustomData(Part):
    """Rows of a form of one's own."""

    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool | None = None


class EvalBody(Body):
    """An eval."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    refused: ClassVar[Mapping[str, tuple[object, ...]]] = {}

    data_source_config: CustomData
    testing_criteria: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=20)]
    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Metadata | None = None


class RowContent(Part):
    """A row; `sample` where there is an answer already."""

    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Part):
    """Rows in the request itself."""

    type: Literal["file_content"]
    content: Annotated[list[RowContent], Field(min_length=1, max_length=_MOST_ROWS)]


class FileReference(Part):
    """Rows in a file: JSON lines of `item`, and `sample` where there is one."""

    type: Literal["file_id"]
    id: Annotated[str, Field(max_length=100)]


Source = Annotated[FileContent | FileReference, Field(discriminator="type")]


class TemplateTurn(Part):
    """A turn in which `{{item.…}}` stands."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Template(Part):
    """What each row is asked as."""

    type: Literal["template"]
    template: Annotated[list[TemplateTurn], Field(min_length=1, max_length=100)]


class EvalSampling(Part):
    """How answers are drawn."""

    max_completion_tokens: Tokens | None = None
    seed: Seed | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None


class AnsweredRows(Part):
    """Rows whose answers are there."""

    type: Literal["jsonl"]
    source: Source


class AskedRows(Part):
    """Rows that a model is asked."""

    type: Literal["completions"]
    source: Source
    input_messages: Template
    model: Name
    sampling_params: EvalSampling | None = None


class EvalRunBody(Body):
    """A run of an eval."""

    data_source: Annotated[AnsweredRows | AskedRows, Field(discriminator="type")]
    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Metadata | None = None
