"""`tunefork chat --server`: a conversation with a model of a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.command import call
from tests.serving.fakes import FakeDecoder, serving
from tunefork.core.errors import InternalError, TuneforkError
from tunefork.inference.engine import Request


def _answer(request: Request) -> str | TuneforkError:
    is_long = len(request.prompt) > 200
    return InternalError("the engine failed") if is_long else f"{len(request.prompt)} tokens."


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    with serving(tmp_path_factory.mktemp("serving"), FakeDecoder(_answer)) as url:
        yield "--server", url


def test_a_conversation(there: tuple[str, str]) -> None:
    said = call("chat", *there, "--model", "tiny", stdin="hello\nand you?\n/new\nhello\n/quit\n")
    assert said.code == 0
    first, second, again = (int(line.removesuffix(" tokens.")) for line in said.out.splitlines())
    assert second > first  # it remembers
    assert again == first


def test_one_question(there: tuple[str, str]) -> None:
    asked = call("chat", "tiny", *there, "-q", "hello", "--json").json
    assert (asked["model"], asked["question"], asked["base"]) == ("tiny", "hello", None)
    assert asked["answer"].endswith(" tokens.")


def test_what_goes_wrong_is_told(there: tuple[str, str]) -> None:
    nameless = call("chat", *there)
    assert nameless.code == 2
    assert "tiny" in nameless.err
    nobody = call("chat", *there, "--model", "nobody", "-q", "hello")
    assert (nobody.code, "There is no model `nobody`" in nobody.err) == (1, True)
    failed = call("chat", *there, "--model", "tiny", "-q", "hello " * 200)
    assert failed.code == 1
    assert "Traceback" not in failed.err
    away = call("chat", "--server", "http://127.0.0.1:9/v1", "--model", "tiny", "-q", "hello")
    assert (away.code, "does not answer" in away.err) == (1, True)
    twice = call("chat", "tiny", "--model", "tiny", *there)
    assert twice.code == 2
    assert call("chat").code == 2
