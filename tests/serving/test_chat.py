"""Chat and legacy completions, asked by the official client, unmodified."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.serving.fakes import FakeBackend, FakeDecoder, context_of, live, serving
from tunefork.core.errors import ModelError, TuneforkError
from tunefork.inference.engine import Request
from tunefork.serving.app import create_app
from tunefork.serving.callers import LOCAL
from tunefork.serving.guard import Access

_TURNS = [{"role": "user", "content": "Hello?"}]


def _answer(request: Request) -> str | TuneforkError:
    if request.sampling.max_tokens == 13:
        return ModelError("the adapter is damaged", where="/secret/place")
    return "forever" if request.sampling.max_tokens > 900 else "Hi there."


@pytest.fixture(scope="module")
def decoder() -> FakeDecoder:
    return FakeDecoder(_answer)


@pytest.fixture(scope="module")
def url(decoder: FakeDecoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("serving"), decoder) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def _ask(client: openai.OpenAI, **settings: object) -> openai.types.chat.ChatCompletion:
    given = {"model": "tiny", "messages": _TURNS, "max_tokens": 50, **settings}
    found = client.chat.completions.create(**given)  # type: ignore[call-overload]
    assert isinstance(found, openai.types.chat.ChatCompletion)
    return found


def test_an_answer_has_the_clients_shape(client: openai.OpenAI, decoder: FakeDecoder) -> None:
    found = _ask(client, temperature=0.5, top_p=0.9, seed=4, n=2, stop=["x", "y"])
    assert [choice.message.content for choice in found.choices] == ["Hi there.", "Hi there."]
    assert [choice.finish_reason for choice in found.choices] == ["stop", "stop"]
    assert found.usage is not None
    assert found.usage.completion_tokens == 18
    assert found.usage.total_tokens == found.usage.prompt_tokens + 18
    first, second = decoder.requests[-2:]
    assert (first.sampling.seed, second.sampling.seed) == (4, 5)
    assert (first.sampling.temperature, first.sampling.top_p) == (0.5, 0.9)
    assert first.sampling.stop == ("x", "y")
    assert first.owner


def test_a_cut_answer_says_so(client: openai.OpenAI) -> None:
    found = _ask(client, max_completion_tokens=2)
    assert found.choices[0].message.content == "Hi"
    assert found.choices[0].finish_reason == "length"


def test_a_stream_is_the_same_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Hello?"}],
        max_tokens=50,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    texts = ["", ""]
    for chunk in chunks[:-1]:
        choice = chunk.choices[0]
        texts[choice.index] += choice.delta.content or ""
    assert texts == ["Hi there.", "Hi there."]
    assert chunks[0].choices[0].delta.role == "assistant"
    ends = [each.choices[0].finish_reason for each in chunks[:-1] if each.choices[0].finish_reason]
    assert ends == ["stop", "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 18


def test_log_probabilities(client: openai.OpenAI) -> None:
    found = _ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert "".join(each.token for each in found.content) == "Hi there."
    assert found.content[0].top_logprobs[1].token == "z"
    assert found.content[0].bytes == [72]


def test_legacy_completions(client: openai.OpenAI, decoder: FakeDecoder) -> None:
    found = client.completions.create(model="tiny", prompt=["a", "b"], n=2, logprobs=1)
    assert [choice.text for choice in found.choices] == ["Hi there."] * 4
    assert found.choices[0].logprobs is not None
    assert found.choices[0].logprobs.text_offset == list(range(9))
    client.completions.create(model="tiny", prompt=[5, 6])
    assert decoder.requests[-1].prompt == (5, 6)
    stream = client.completions.create(model="tiny", prompt="a", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "Hi there."


def test_the_async_client(url: str) -> None:
    async def ask() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            whole = await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hello?"}], max_tokens=50
            )
            text = ""
            stream = await client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": "Hello?"}],
                max_tokens=50,
                stream=True,
            )
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            return whole.choices[0].message.content, text

    assert asyncio.run(ask()) == ("Hi there.", "Hi there.")


def test_models_by_name(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["tiny", "gpt-4o-mini", "org/name:v1", "broken", "vectors", "pirate"]
    assert client.models.retrieve("org/name:v1").id == "org/name:v1"
    assert client.models.retrieve("pirate").model_extra == {"verdict": "unproven"}
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("tiny")
    with pytest.raises(openai.NotFoundError, match="no model `nobody`"):
        client.models.retrieve("nobody")


def test_a_prompt_is_served_like_any_model(client: openai.OpenAI, decoder: FakeDecoder) -> None:
    found = client.chat.completions.create(
        model="pirate", messages=[{"role": "user", "content": "Hello?"}]
    )
    request = decoder.requests[-1]
    assert found.choices[0].message.content == "Hi th"
    assert request.sampling.temperature == 0.0
    pirate = FakeBackend(decoder).host(FakeBackend(decoder).models(LOCAL)[0]).renderer
    assert "Be a pirate." in pirate.tokenizer.decode(request.prompt)


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"extra_body": {"audio": {}}}, "audio"),
        ({"extra_body": {"reasoning_effort": "high"}}, "reasoning_effort"),
        ({"extra_body": {"functions": [{"name": "f"}]}}, "functions"),
        ({"extra_body": {"nonsense": 1}}, "nonsense"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 99}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"max_tokens": 5000}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_cannot_be_done_is_named(
    client: openai.OpenAI, settings: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        _ask(client, **settings)
    assert (raised.value.param or "").startswith(param)
    assert raised.value.type == "invalid_request_error"


def test_harmless_parameters_pass(client: openai.OpenAI) -> None:
    extra = {"functions": [], "function_call": "none", "modalities": ["text"], "audio": None}
    found = _ask(client, user="me", metadata={"a": "b"}, store=False, extra_body=extra)
    assert found.choices[0].message.content == "Hi there."


def test_every_class_of_error(client: openai.OpenAI, url: str, decoder: FakeDecoder) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        _ask(client, model="nobody")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.InternalServerError) as broken:
        _ask(client, model="broken")
    assert broken.value.code == "model_unusable"
    assert "/secret" not in broken.value.message
    assert broken.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.InternalServerError):  # it fails while it answers
        _ask(client, max_tokens=13)
    with pytest.raises(openai.InternalServerError):
        _ask(client, max_tokens=13, stream=True)
    decoder.is_busy = True
    with pytest.raises(openai.RateLimitError) as busy:
        _ask(client)
    decoder.is_busy = False
    assert busy.value.response.headers["retry-after"] == "3"
    assert busy.value.response.headers["x-should-retry"] == "true"
    assert _ask(client).choices[0].message.content == "Hi there."


def test_errors_have_one_shape(url: str) -> None:
    with httpx2.Client() as web:
        root = url.removesuffix("/v1")
        found = [
            (404, web.get(f"{url}/nothing")),
            (405, web.get(f"{url}/chat/completions")),
            (400, web.post(f"{url}/chat/completions", content=b"{nonsense")),
            (400, web.post(f"{url}/chat/completions", json=[1])),
            (400, web.post(f"{url}/chat/completions", content=b'{"model": "\\ud800"}')),
            (413, web.post(f"{url}/chat/completions", content=b" " * 9_000_000)),
            (413, web.post(f"{url}/chat/completions", content=iter([b" " * 9_000_000]))),
            (403, web.get(f"{root}/v1/models", headers={"host": "evil.example"})),
            (403, web.get(f"{root}/v1/models", headers={"origin": "http://evil.example"})),
        ]
        for status, answer in found:
            assert answer.status_code == status, answer.text
            assert set(answer.json()) == {"error"}
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert web.get(f"{root}/health").json()["status"] == "ok"


def test_who_has_no_key_is_turned_away(tmp_path: Path, decoder: FakeDecoder) -> None:
    with (
        context_of(tmp_path, decoder) as context,
        live(create_app(context, Access("right"))) as url,
    ):
        with (
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
        with openai.OpenAI(base_url=url, api_key="right", max_retries=0) as client:
            assert client.models.list().data


def test_who_hangs_up_is_forgotten(client: openai.OpenAI, url: str, decoder: FakeDecoder) -> None:
    body = {"model": "tiny", "messages": _TURNS, "max_tokens": 950}
    with httpx2.Client() as web:
        with web.stream("POST", f"{url}/chat/completions", json={**body, "stream": True}) as stream:
            next(stream.iter_lines())
        with pytest.raises(httpx2.ReadTimeout):
            web.post(f"{url}/chat/completions", json=body, timeout=0.3)
    for ticket in decoder.tickets[-2:]:
        for _ in range(400):
            if ticket.is_cancelled:
                break
            asyncio.run(asyncio.sleep(0.01))
        assert ticket.is_cancelled
