"""Responses, embeddings, graders and evals, asked by the official client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serving.fakes import FakeDecoder, serving
from tunefork.inference.engine import Request


def _answer(request: Request) -> str:
    return "0.75" if request.sampling.seed == 5 else "Hi there."


@pytest.fixture(scope="module")
def decoder() -> FakeDecoder:
    return FakeDecoder(_answer)


@pytest.fixture(scope="module")
def client(
    decoder: FakeDecoder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    with (
        serving(tmp_path_factory.mktemp("serving"), decoder) as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


def test_a_response(client: openai.OpenAI, decoder: FakeDecoder) -> None:
    found = client.responses.create(
        model="tiny", input="Hello?", instructions="Be brief.", temperature=0, metadata={"a": "b"}
    )
    assert (found.output_text, found.status) == ("Hi there.", "completed")
    assert found.usage is not None
    assert found.usage.output_tokens == 9
    assert decoder.requests[-1].sampling.temperature == 0
    again = client.responses.create(
        model="tiny",
        input=[
            {"role": "user", "content": "Hello?"},
            *(item.model_dump(exclude_none=True) for item in found.output),  # type: ignore[list-item]
            {"role": "user", "content": "And?"},
        ],
        max_output_tokens=2,
    )
    assert (again.output_text, again.status) == ("Hi", "incomplete")
    assert len(decoder.requests[-1].prompt) > len(decoder.requests[-2].prompt)


def test_a_streamed_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tiny", input="Hello?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == "Hi there."
    assert kinds[0] == "response.created"
    assert kinds.count("response.output_text.delta") == 9
    assert kinds[-1] == "response.completed"


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"input": ""}, "input"),
        (
            {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "odd"}}}},
            "text.format",
        ),
    ],
)
def test_responses_that_cannot_be_given(
    client: openai.OpenAI, settings: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**{"model": "tiny", "input": "Hello?", **settings})
    assert (raised.value.param or "").startswith(param)


def test_embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="vectors", input=["a", "abc"])  # the client asks base64
    assert [each.embedding for each in found.data] == [[1.0, 1.0], [3.0, 1.0]]
    plain = client.embeddings.create(model="vectors", input="ab", encoding_format="float")
    assert plain.data[0].embedding == [2.0, 1.0]
    assert plain.usage.total_tokens == 2
    with pytest.raises(openai.BadRequestError, match="makes no embeddings"):
        client.embeddings.create(model="tiny", input="a")
    with pytest.raises(openai.BadRequestError, match="makes embeddings, not text"):
        client.completions.create(model="vectors", prompt="a")


_CHECK = {
    "type": "string_check",
    "name": "right",
    "input": "{{sample.output_text}}",
    "operation": "eq",
    "reference": "{{item.answer}}",
}


def test_graders(client: openai.OpenAI) -> None:
    graders = client.fine_tuning.alpha.graders
    assert graders.validate(grader=_CHECK).grader is not None  # type: ignore[arg-type]
    right = graders.run(grader=_CHECK, model_sample="4", item={"answer": "4"})  # type: ignore[arg-type]
    wrong = graders.run(grader=_CHECK, model_sample="5", item={"answer": "4"})  # type: ignore[arg-type]
    assert (right.reward, wrong.reward) == (1.0, 0.0)
    assert not right.metadata.errors.other_error
    blank = graders.run(grader=_CHECK, model_sample="4", item={})  # type: ignore[arg-type]
    assert blank.metadata.errors.invalid_variable_error
    with pytest.raises(openai.BadRequestError, match="unknown grader"):
        graders.validate(grader={"type": "nonsense"})  # type: ignore[arg-type]


def test_a_grader_asks_a_model_here(client: openai.OpenAI) -> None:
    grader = {
        "type": "score_model",
        "name": "judge",
        "model": "tiny",
        "input": [{"role": "user", "content": "Rate this: {{sample.output_text}}"}],
        "range": [0, 1],
        "sampling_params": {"seed": 5},
    }
    found = client.fine_tuning.alpha.graders.run(grader=grader, model_sample="x")  # type: ignore[arg-type]
    assert found.reward == 0.75
    nobody = {**grader, "model": "nobody"}
    missing = client.fine_tuning.alpha.graders.run(grader=nobody, model_sample="x")  # type: ignore[arg-type]
    assert missing.metadata.errors.api_model_grader_server_error


def _make_eval(client: openai.OpenAI) -> str:
    schema: Any = {"type": "object", "properties": {"answer": {"type": "string"}}}
    made = client.evals.create(
        name="greetings",
        data_source_config={"type": "custom", "item_schema": schema},
        testing_criteria=[_CHECK],  # type: ignore[list-item]
    )
    assert client.evals.retrieve(made.id).name == "greetings"
    return made.id


def _completed(client: openai.OpenAI, name: str, run: str) -> Any:
    end = time.monotonic() + 20
    while (found := client.evals.runs.retrieve(run, eval_id=name)).status not in (
        "completed",
        "failed",
    ):
        assert time.monotonic() < end
    return found


def test_an_eval_asks_and_marks(client: openai.OpenAI) -> None:
    name = _make_eval(client)
    rows = [{"item": {"q": "Hello?", "answer": answer}} for answer in ("Hi there.", "No.")]
    rows.append({"item": {"answer": "no question"}})
    source: Any = {
        "type": "completions",
        "model": "tiny",
        "source": {"type": "file_content", "content": rows},
        "input_messages": {
            "type": "template",
            "template": [{"type": "message", "role": "user", "content": "{{item.q}}"}],
        },
    }
    run = client.evals.runs.create(name, data_source=source)
    found = _completed(client, name, run.id)
    assert found.status == "completed"
    counts = found.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (3, 1, 1, 1)
    items = list(client.evals.runs.output_items.list(run.id, eval_id=name, limit=2))
    assert [item.status for item in items] == ["pass", "fail", "error"]
    assert items[0].sample.output[0].content == "Hi there."
    assert items[0].results[0].passed
    one = client.evals.runs.output_items.retrieve(items[1].id, eval_id=name, run_id=run.id)
    assert one.datasource_item["answer"] == "No."
    assert client.evals.delete(name).deleted
    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve(name)


def test_an_eval_of_answers_that_are_there(client: openai.OpenAI) -> None:
    name = _make_eval(client)
    rows = [{"item": {"answer": "4"}, "sample": {"output_text": said}} for said in ("4", "5", "4")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file = client.files.create(file=("rows.jsonl", text.encode()), purpose="evals")
    source: Any = {"type": "jsonl", "source": {"type": "file_id", "id": file.id}}
    run = client.evals.runs.create(name, data_source=source)
    assert _completed(client, name, run.id).result_counts.passed == 2
    bad = client.files.create(file=("rows.jsonl", b"nonsense"), purpose="evals")
    source["source"]["id"] = bad.id
    with pytest.raises(openai.BadRequestError, match="Line 1 is not JSON"):
        client.evals.runs.create(name, data_source=source)


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Opening and closing a server leaves its state usable for the next one."""
    for _ in range(2):
        with serving(tmp_path, FakeDecoder(lambda request: "x")) as url:
            assert url
