"""What is in the batch beside a request changes nothing of its answer, to the bit."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.inference.engine import ask, prompts, read, running, save_adapters
from tests.small import packed_model
from tunefork.inference import Engine, EngineSettings, Piece, Request
from tunefork.inference.engine.fair import FairQueue


def _asked(keys: list[Any]) -> list[Request]:
    """Return requests of many kinds, each with a seed of its own."""
    lengths = (5, 1, 33, 7, 70, 20, 3, 64)
    found = []
    for at, prompt in enumerate(prompts(lengths) * 3):
        how: dict[str, Any] = {"temperature": (0.0, 0.8, 1.3)[at % 3], "top_p": (1.0, 0.9)[at % 2]}
        if at % 4 == 0:
            how |= {"presence_penalty": 0.5, "frequency_penalty": 0.3}
        found.append(ask(prompt, keys[at % len(keys)], n_logprobs=2, seed=at, **how))
    return found


def _answers(engine: Engine, asked: list[Request]) -> list[list[Piece]]:
    tickets = [engine.submit(request) for request in asked]
    return [read(ticket) for ticket in tickets]


def test_answers_are_the_same_to_the_bit_whatever_else_is_asked(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    asked = _asked([None, *folders])
    settings = EngineSettings(rows=20, prefill_tokens=48, prefix_bytes=0)
    with running(tmp_path, settings=settings) as engine:
        for key, folder in folders.items():
            engine.pool.register(key, folder)
        together = _answers(engine, asked)
        alone = [_answers(engine, [request])[0] for request in asked]
        mixed = list(range(len(asked)))
        random.Random(1).shuffle(mixed)
        shuffled = _answers(engine, [asked[at] for at in mixed])
    # Log-probabilities too, which a different last bit would change.
    assert together == alone
    assert [together[at] for at in mixed] == shuffled


def test_seeds_decide_and_nothing_else(tmp_path: Path) -> None:
    prompt = prompts()[0]
    with running(tmp_path) as engine:
        how: dict[str, Any] = {"temperature": 1.0, "n_logprobs": 0}
        one, again, other, drawn, anew = _answers(
            engine, [ask(prompt, **how, seed=seed) for seed in (1, 1, 2, None, None)]
        )
    assert one == again
    assert len({str(each) for each in (one, other, drawn, anew)}) == 4


def test_a_kept_prefix_changes_nothing_and_is_its_owners_alone(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    begin, *ends = prompts((70, 3, 4, 5))
    asked = [ask(begin + end, key, "ann", n_logprobs=1) for key in (None, *folders) for end in ends]
    with running(tmp_path, settings=EngineSettings(prefix_bytes=0)) as engine:
        for key, folder in folders.items():
            engine.pool.register(key, folder)
        without = [_answers(engine, [request])[0] for request in asked]
    with running(tmp_path) as engine:
        for key, folder in folders.items():
            engine.pool.register(key, folder)
        found, cached = [], []
        for request in asked:
            ticket = engine.submit(request)
            found.append(read(ticket))
            cached.append(ticket.usage.cached_tokens)
        stranger = engine.submit(ask(begin + ends[0], None, "bob"))
        read(stranger)
        assert engine.stats().cached_tokens == sum(cached)
    assert found == without
    assert cached == [0, 64, 64] * (1 + len(folders))
    assert stranger.usage.cached_tokens == 0


def test_kept_prefixes_stay_within_their_bytes(tmp_path: Path) -> None:
    block = 2 * 2 * 2 * 32 * 8 * 4  # layers, keys and values, key heads, tokens, size, bytes
    with running(tmp_path, settings=EngineSettings(prefix_bytes=3 * block)) as engine:
        for seed in range(5):
            read(engine.submit(ask([5 + seed] * 70)))
            assert 0 < engine.stats().prefix_bytes <= 3 * block
        again = engine.submit(ask([9] * 70))
        read(again)
        assert again.usage.cached_tokens == 64
        gone = engine.submit(ask([5] * 70))
        read(gone)
        assert gone.usage.cached_tokens == 0


def test_rows_join_and_leave_while_others_run(tmp_path: Path) -> None:
    """More requests than rows, of many lengths; each gets as many tokens as it asked for."""
    numbers = random.Random(2)
    lengths = [numbers.randint(1, 40) for _ in range(60)]
    model = packed_model("llama")
    with running(tmp_path, model, EngineSettings(rows=16, prefill_tokens=32)) as engine:
        tickets = [
            engine.submit(ask([7] * (1 + n % 50), max_tokens=n, logit_bias={2: -100.0}))
            for n in lengths
        ]
        for ticket, length in zip(tickets, lengths, strict=True):
            pieces = read(ticket)
            assert pieces[-1].ended == "length"
            assert ticket.usage.completion_tokens == length
        stats = engine.stats()
    assert stats.answers == 60
    assert stats.running == stats.waiting == 0
    assert stats.steps < sum(lengths) / 8  # they ran together


@pytest.mark.parametrize("lead", [0, 1000])
def test_one_who_asks_much_does_not_hold_up_another(lead: int) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue(lambda item: item[0])
    for number in range(50):
        queue.push(("many", number))
    queue.pop()
    queue.charge("many", lead)
    for number in range(5):
        queue.push(("few", number))
    got = []
    for _ in range(10):
        item = queue.pop()
        queue.charge(item[0], 10)
        got.append(item)
        queue.leave(item[0])
    assert [item for item in got if item[0] == "few"] == [("few", number) for number in range(5)]
