"""What an answer has to match, where it stops, and what of it is shown when."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import torch

from tests.inference.engine import ask, read, text_of
from tunefork.core.errors import InputError
from tunefork.data.tokenizer import load_tokenizer
from tunefork.inference import AdapterPool, Engine, Piece, choice, json_object, json_schema, regex
from tunefork.inference.engine.text import TextStream
from tunefork.models import find_base, load_model

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "kind": {"enum": ["cat", "dog"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}
PROMPT = "Tell me about a cat."


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    base = find_base("tiny")
    model, tokenizer = load_model(base, dtype=torch.float32), load_tokenizer(base.folder)
    running = Engine(model, tokenizer, tokenizer.eos_ids, AdapterPool(model))
    running.start()
    yield running
    running.close()


def _asked(**how: Any) -> Any:
    ids = load_tokenizer(find_base("tiny").folder).encode(PROMPT)
    return ask(ids, **{"max_tokens": 120, "temperature": 1.0, **how})


def test_answers_match_their_schema(engine: Engine) -> None:
    constraint = json_schema(SCHEMA)
    tickets = [
        engine.submit(_asked(constraint=constraint, seed=seed, max_tokens=300, temperature=0.7))
        for seed in range(6)
    ]
    for ticket in tickets:
        pieces = read(ticket)
        assert pieces[-1].ended == "stop"
        jsonschema.validate(json.loads("".join(piece.text for piece in pieces)), SCHEMA)


def test_answers_match_an_expression_a_choice_or_any_object(engine: Engine) -> None:
    asked = [
        regex(r"[a-c]{3}-\d{2,4}"),
        choice(["yes", "no, never", 'a "quoted" one']),
        json_object(),
    ]
    for seed in range(2):
        code, chosen, thing = (
            engine.submit(_asked(constraint=each, seed=seed, max_tokens=60)) for each in asked
        )
        assert re.fullmatch(r"[a-c]{3}-\d{2,4}", text_of(code))
        assert text_of(chosen) in ("yes", "no, never", 'a "quoted" one')
        pieces = read(thing)
        text = "".join(piece.text for piece in pieces)
        assert text.lstrip().startswith("{")
        assert pieces[-1].ended == "length" or isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: json_schema({"type": "objet"}), "objet"),
        (lambda: json_schema({"type": "string", "not": {"const": "a"}}), "not"),
        (lambda: json_schema({"$ref": "https://example.org/schema"}), "example.org"),
        (lambda: regex("[a-"), "unclosed"),
        (lambda: choice([]), "choice"),
    ],
)
def test_what_cannot_be_enforced_is_refused_by_name(build: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        build()


def test_a_slow_grammar_does_not_hold_up_others(engine: Engine) -> None:
    """Its row sits out steps until it is known what may come."""
    slow = regex("(" + "|".join(f"(a|b|c|d){{{n},{n + 40}}}x{n}" for n in range(40)) + ")")
    tickets = [
        engine.submit(_asked(constraint=slow, seed=seed, max_tokens=30)) for seed in range(3)
    ]
    plain = engine.submit(_asked(max_tokens=30, seed=1, logit_bias={2: -100.0}))
    assert read(plain)[-1].ended == "length"
    for ticket in tickets:
        assert re.fullmatch("[abcd]*x?[0-9]*", text_of(ticket))


def test_stop_texts_end_an_answer_and_are_not_shown(engine: Engine) -> None:
    how: dict[str, Any] = {"seed": 7, "logit_bias": {2: -100.0}, "max_tokens": 30}
    whole = text_of(engine.submit(_asked(**how)))
    stops = [
        whole[begin : begin + length]
        for begin in (0, len(whole) // 3, len(whole) // 2)
        for length in (1, 2, 9)
    ]
    tickets = [engine.submit(_asked(**how, stop=("§§", stop))) for stop in stops]
    for stop, ticket in zip(stops, tickets, strict=True):
        pieces = read(ticket)
        shown = "".join(piece.text for piece in pieces)
        assert shown == whole[: whole.index(stop)]
        assert pieces[-1].ended == "stop"


def test_text_comes_piece_by_piece(engine: Engine) -> None:
    how: dict[str, Any] = {"seed": 3, "max_tokens": 40, "logit_bias": {2: -100.0}}
    pieces = read(engine.submit(_asked(**how)))
    assert len(pieces) > 20
    assert [piece.ended for piece in pieces[:-1]] == [None] * (len(pieces) - 1)


def test_probabilities_are_those_of_the_model(engine: Engine) -> None:
    request = _asked(seed=5, n_logprobs=3, max_tokens=12, temperature=0.7)
    tokens = [token for piece in read(engine.submit(request)) for token in piece.tokens]
    model = load_model(find_base("tiny"), dtype=torch.float32)
    from tunefork.models import PackedLayout, run_on

    ids = [*request.prompt, *(token.id for token in tokens)]
    with torch.no_grad():
        logs = run_on(model, torch.tensor(ids), PackedLayout([len(ids)])).log_softmax(-1)
    for at, token in enumerate(tokens):
        row = logs[len(request.prompt) - 1 + at]
        assert token.logprob == pytest.approx(float(row[token.id]), abs=2e-4)
        best = row.topk(3)
        assert [each.id for each in token.top] == best.indices.tolist()
        assert [each.logprob for each in token.top] == pytest.approx(best.values.tolist(), abs=2e-4)
        assert token.bytes.decode() == token.text
    assert read(engine.submit(_asked(n_logprobs=0, max_tokens=1)))[0].tokens[0].top == ()


def test_biases_forbid_and_force_tokens(engine: Engine) -> None:
    forced = read(engine.submit(_asked(logit_bias={400: 100.0}, max_tokens=5, n_logprobs=0)))
    assert [token.id for piece in forced for token in piece.tokens] == [400] * 5
    ids = [
        token.id
        for piece in read(
            engine.submit(
                _asked(
                    frequency_penalty=2.0,
                    presence_penalty=2.0,
                    n_logprobs=0,
                    temperature=0.0,
                    max_tokens=40,
                )
            )
        )
        for token in piece.tokens
    ]
    plain = [
        token.id
        for piece in read(engine.submit(_asked(n_logprobs=0, temperature=0.0, max_tokens=40)))
        for token in piece.tokens
    ]
    assert len(set(ids)) / len(ids) > len(set(plain)) / len(plain)


def _stream(text: str, stop: tuple[str, ...]) -> tuple[str, list[str]]:
    """Stream a text byte by byte, as a byte-level tokenizer might."""
    data = text.encode()
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), stop)
    shown = []
    for byte in data:
        shown.append(stream.push(byte))
        if stream.is_stopped:
            break
    return "".join(shown) + stream.end(), shown


@pytest.mark.parametrize("text", ["añb", "日本語 text", "👩‍👩‍👧 family", "a\n\nb", "…"])
def test_characters_are_shown_whole(text: str) -> None:
    whole, shown = _stream(text, ())
    assert whole == text
    assert not any("\ufffd" in each for each in shown)


def test_half_a_stop_text_is_held_back_and_shown_if_it_was_none() -> None:
    whole, shown = _stream("one END two EN", ("END!", "STOP"))
    assert whole == "one END two EN"
    assert shown[4:7] == ["", "", ""]  # E, N, D: may become a stop text
    assert _stream("one END! two", ("END!",))[0] == "one "
    assert _stream("aab", ("ab",))[0] == "a"
    assert _stream("aé", ("é",))[0] == "a"


def test_bytes_that_are_no_text_are_shown_at_the_end() -> None:
    stream = TextStream(lambda ids: bytes(ids).decode(errors="replace"), ())
    assert stream.push(0xE6) == ""
    assert stream.end() == "\ufffd"


def test_a_piece_is_plain_data() -> None:
    assert Piece("a") == Piece("a", (), None)
