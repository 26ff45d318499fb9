"""The OpenAPI document is true: schemathesis asks all of it, and nothing fails or surprises."""

from __future__ import annotations

import contextlib
import itertools
import random
import string
from collections.abc import Iterator
from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serving.fakes import FakeDecoder, context_of, live
from tunefork.serving.app import create_app
from tunefork.serving.guard import Access
from tunefork.serving.limits import Limits

_CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# A worker that says at once that the data is wrong.
_WORKER = (
    "import sys; from pathlib import Path; from tunefork.serving.job_folder import JobFolder; "
    "JobFolder(Path(sys.argv[1])).write_end('failed', error={'code': 'data', 'message': 'no', "
    "'param': None})"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any]]]:
    decoder = FakeDecoder(lambda request: "Hi there.")
    folder = tmp_path_factory.mktemp("serving")
    limits = Limits(jobs_waiting=2)
    with context_of(folder, decoder, _WORKER, limits=limits) as context:
        app = create_app(context, Access())
        with live(app) as url:
            yield url.removesuffix("/v1"), app.openapi()


def _hold_to_it(served: tuple[str, dict[str, Any]], count: int, *modes: GenerationMode) -> None:
    """Ask every operation `count` times what its schema allows, or what it does not."""
    schema: Any = schemathesis.openapi.from_dict(served[1])
    schema.config.update(base_url=served[0])
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 35
    for operation, mode in itertools.product(operations, modes):

        @hypothesis.settings(
            max_examples=count,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(checks=_CHECKS)

        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing of it can be wrong
            ask()


def test_the_document_is_true(served: tuple[str, dict[str, Any]]) -> None:
    _hold_to_it(served, 2, GenerationMode.POSITIVE)


@pytest.mark.soak
def test_the_document_is_true_of_much(served: tuple[str, dict[str, Any]]) -> None:
    _hold_to_it(served, 60, GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def test_the_document_says_all_errors(served: tuple[str, dict[str, Any]]) -> None:
    for path, operations in served[1]["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            if path not in ("/health", "/ready"):
                assert {"400", "404", "413", "429", "500"} <= operation["responses"].keys()


def _bodies(random_: random.Random, count: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Yield bodies that are nearly right, cut, mixed up or nonsense, with headers as odd."""
    good = [
        b'{"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}',
        b'{"model": "tiny", "prompt": "x", "max_tokens": 3, "logit_bias": {"5": 1.5}}',
        b'{"model": "tiny", "input": "x", "text": {"format": {"type": "json_object"}}}',
        b'{"model": "tiny", "training_file": "file-x", "metadata": {"a": "b"}}',
        b'{"grader": {"type": "string_check", "operation": "eq"}, "model_sample": "x"}',
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n{}\r\n'
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--\r\n',
    ]
    odd = [b"\x00", b"\xff\xfe", b'"\\ud800"', b"1e999", b"NaN", b"null", b"[" * 3000, b"9" * 5000]
    kinds = ["application/json", "multipart/form-data; boundary=b", "text/plain", "\x01", "a" * 900]
    for _ in range(count):
        body = bytearray(random_.choice(good))
        for _ in range(random_.randrange(6)):
            at = random_.randrange(len(body) + 1)
            how = random_.randrange(4)
            if how == 0:
                del body[at : at + random_.randrange(9)]
            elif how == 1:
                body[at:at] = random_.choice(odd)
            elif how == 2 and at < len(body):
                body[at] = random_.randrange(256)
            else:
                body[at:at] = random_.choice(good)[: random_.randrange(40)]
        name = "".join(random_.choices(string.ascii_letters, k=5))
        value = "".join(random_.choices(string.printable[:94], k=random_.randrange(200)))
        headers = {"content-type": random_.choice(kinds), f"x-{name}": value.strip()}
        yield "POST", bytes(body), headers


def _fuzz(served: tuple[str, dict[str, Any]], count: int) -> None:
    paths = sorted(served[1]["paths"])
    random_ = random.Random(4)
    with httpx2.Client(timeout=20) as web:
        for method, body, headers in _bodies(random_, count):
            path = random_.choice(paths).replace("{", "%7B").replace("}", random_.choice("x%\"'/"))
            how = random_.choices([method, "GET", "PUT", "DELETE", "PATCH"], [12, 2, 1, 1, 1])[0]
            try:
                answer = web.request(how, served[0] + path, content=body, headers=headers)
            except (httpx2.LocalProtocolError, httpx2.InvalidURL, UnicodeEncodeError):
                continue  # the client does not send it
            assert answer.status_code < 500, (path, body, headers, answer.text)
            assert "Traceback" not in answer.text
            assert "/site-packages/" not in answer.text
            is_from_server = answer.text.startswith("Invalid HTTP request")
            if answer.status_code >= 400 and how != "HEAD" and not is_from_server:
                assert set(answer.json()) == {"error"}, (path, answer.text)


def test_nonsense_is_answered_in_one_shape(served: tuple[str, dict[str, Any]]) -> None:
    _fuzz(served, 250)


@pytest.mark.soak
def test_much_nonsense(served: tuple[str, dict[str, Any]]) -> None:
    _fuzz(served, 5000)
