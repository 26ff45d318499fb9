"""What goes wrong for one request leaves the others alone, and nothing ever hangs."""

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.inference.engine import END, ask, ids_of, prompts, read, running, save_adapters, text_of
from tests.small import packed_model
from tunefork.core.errors import Busy, InputError, InternalError, ModelError, TuneforkError
from tunefork.inference import EngineSettings, Request, Sampling


def _failing(model: Any, when: Any, error: Exception) -> Any:
    """Let a model fail in calls of which something is true."""

    def before(module: Any, args: Any) -> None:
        if when(args[0].shape[1]):
            raise error

    model.get_input_embeddings().register_forward_pre_hook(before)
    return model


def test_a_damaged_adapter_fails_its_own_requests(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    weights = folders["lora2"] / "adapter_model.safetensors"
    with running(tmp_path) as engine:
        for key, folder in folders.items():
            engine.pool.register(key, folder)
        before = ids_of(engine.submit(ask(prompts()[0], "lora5", n_logprobs=0)))
        weights.write_bytes(weights.read_bytes()[:-7] + b"damaged")
        keys = ["lora5", "lora2", None, "lora2", "prefix"]
        tickets = {
            at: engine.submit(ask(prompts()[0], key, n_logprobs=0)) for at, key in enumerate(keys)
        }
        assert ids_of(tickets[0]) == before
        for at in (1, 3):
            with pytest.raises(ModelError, match="not those that were registered"):
                read(tickets[at])
        assert len(ids_of(tickets[2])) > 0
        assert len(ids_of(tickets[4])) > 0
        assert engine.stats().failures == 2
        weights.write_bytes(weights.read_bytes()[:-7])
        engine.pool.register("lora2", folders["lora2"])  # known as they are, and of no use
        with pytest.raises(ModelError):
            read(engine.submit(ask(prompts()[0], "lora2")))
        shutil.rmtree(folders["dora"])
        with pytest.raises(TuneforkError):
            read(engine.submit(ask(prompts()[0], "dora")))
        assert ids_of(engine.submit(ask(prompts()[0], "lora5", n_logprobs=0))) == before


def test_adapters_leave_and_come_back(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    sizes = [(folder / "adapter_model.safetensors").stat().st_size for folder in folders.values()]
    budget = max(sizes)  # the largest file needs all of it; in memory adapters take less
    with running(tmp_path, budget_bytes=budget) as engine:
        for key, folder in folders.items():
            engine.pool.register(key, folder)
        first: dict[str, list[int]] = {}
        for key in [*folders, *folders]:
            answer = ids_of(engine.submit(ask(prompts()[2], key, n_logprobs=0)))
            assert first.setdefault(key, answer) == answer
            assert engine.pool.resident[-1] == key
            assert engine.pool.resident_bytes <= budget
        tickets = [engine.submit(ask(prompts()[2], key, n_logprobs=0)) for key in list(folders) * 5]
        for ticket, key in zip(tickets, list(folders) * 5, strict=True):
            assert ids_of(ticket) == first[key]
        told = engine.stats()
        assert told.adapter_evictions > 0
        assert told.adapter_loads - told.adapter_evictions == told.adapters_resident


def test_a_key_may_come_to_mean_another_adapter(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    prompt = prompts()[4]
    with running(tmp_path) as engine:
        with pytest.raises(InputError, match="no adapter `x`"):
            engine.submit(ask(prompt, "x"))
        answers = {}
        for key in ("lora2", "bottleneck"):
            engine.pool.register("x", folders[key])
            ticket = engine.submit(ask(prompt, "x", n_logprobs=1))
            answers[key] = read(ticket)
            assert ticket.usage.cached_tokens == 0  # what the other one computed is of no use
        assert answers["lora2"] != answers["bottleneck"]
        engine.pool.forget("x")
        with pytest.raises(InputError, match="no adapter `x`"):
            engine.submit(ask(prompt, "x"))
        assert engine.pool.keys == ()
        with pytest.raises(ModelError):
            engine.pool.register("y", tmp_path / "nothing")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    folders = save_adapters(tmp_path)
    with running(tmp_path) as engine:
        engine.pool.register("prefix", folders["prefix"])
        assert read(engine.submit(ask([5] * 100, max_tokens=28)))
        for request in (
            ask([5] * 100, max_tokens=29),
            ask([5] * 100, "prefix", max_tokens=28),
            ask([]),
            ask([97]),
            ask([-1]),
        ):
            with pytest.raises(InputError):
                engine.submit(request)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"stop": ("a",) * 5},
        {"stop": ("",)},
        {"n_logprobs": 21},
        {"logit_bias": {1: float("inf")}},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Sampling(**{"max_tokens": 1, **wrong})


def test_too_many_are_told_when_to_come_back(tmp_path: Path) -> None:
    settings = EngineSettings(rows=16, waiting=6, waiting_each=4)
    release = threading.Event()
    model = _failing(packed_model("llama"), lambda n: not release.wait(20), RuntimeError("late"))
    release.set()
    with running(tmp_path, model, settings) as engine:
        release.clear()  # the engine stands still in its first turn
        tickets, refused = [], []
        for number in range(40):
            try:
                tickets.append(engine.submit(ask([5], owner="ann" if number % 2 else "bob")))
            except Busy as busy:
                refused.append(busy)
        assert refused
        assert all(1 <= busy.retry_after_s <= 60 for busy in refused)
        assert engine.stats().waiting <= 6
        release.set()
        assert all(read(ticket)[-1].ended for ticket in tickets)


def test_memory_that_runs_out_makes_the_batch_smaller(tmp_path: Path) -> None:
    asked = [
        ask(prompt, n_logprobs=0, max_tokens=8, logit_bias={2: -100.0}) for prompt in prompts() * 3
    ]
    with running(tmp_path, settings=EngineSettings(rows=32)) as engine:
        expected = [ids_of(ticket) for ticket in [engine.submit(request) for request in asked]]
    most = [16]  # rows or tokens at once
    error = torch.OutOfMemoryError("CUDA out of memory")
    model = packed_model("llama")
    with running(tmp_path, model, EngineSettings(rows=32)) as engine:
        _failing(model, lambda n: n > most[0], error)
        tickets = [engine.submit(request) for request in asked]
        assert [ids_of(ticket) for ticket in tickets] == expected
        most[0] = 0
        with pytest.raises(InternalError, match="not enough memory"):
            read(engine.submit(ask([5] * 40)))
        most[0] = 16
        assert ids_of(engine.submit(asked[0])) == expected[0]


def test_a_failed_engine_says_so_to_all(tmp_path: Path) -> None:
    model = packed_model("llama")
    with running(tmp_path, model) as engine:
        _failing(model, lambda n: True, ZeroDivisionError("a fault"))
        ticket = engine.submit(ask([5, 6]))
        with pytest.raises(InternalError, match="ZeroDivisionError: a fault"):
            read(ticket)
        with pytest.raises(InternalError, match="the engine has failed"):
            engine.submit(ask([5, 6]))
        assert not engine.stats().is_alive


def test_a_cancelled_request_leaves_and_frees_its_place(tmp_path: Path) -> None:
    endless: dict[str, Any] = {"max_tokens": 100, "logit_bias": {END: -100.0}}
    with running(tmp_path, settings=EngineSettings(rows=16)) as engine:
        tickets = [engine.submit(ask([5], **endless)) for _ in range(40)]
        for ticket in tickets[1:]:
            ticket.cancel()
        assert len(text_of(tickets[0])) > 0
        assert text_of(engine.submit(ask([6], max_tokens=3)))
        assert engine.stats().completion_tokens < 16 * 100


def test_closing_drains_or_fails_what_is_left(tmp_path: Path) -> None:
    with running(tmp_path) as engine:
        tickets = [engine.submit(ask([5], max_tokens=5)) for _ in range(20)]
        engine.close(drain_s=60)
        assert all(read(ticket)[-1].ended for ticket in tickets)
        with pytest.raises(Busy, match="closing"):
            engine.submit(ask([5]))
    with running(tmp_path) as engine:
        tickets = [
            engine.submit(ask([5], max_tokens=120, logit_bias={2: -100.0})) for _ in range(200)
        ]
        engine.close()
        with pytest.raises(InternalError, match="closed"):
            read(tickets[-1])


def test_an_answer_can_be_read_on_an_event_loop(tmp_path: Path) -> None:
    async def texts(tickets: list[Any]) -> list[str]:
        async def one(ticket: Any) -> str:
            return "".join([piece.text async for piece in ticket])

        return await asyncio.gather(*map(one, tickets))

    asked: list[Request] = [ask(prompt) for prompt in prompts()]
    with running(tmp_path) as engine:
        expected = [text_of(engine.submit(request)) for request in asked]
        found = asyncio.run(texts([engine.submit(request) for request in asked]))
        assert found == expected

        async def fails() -> None:
            with pytest.raises(ModelError):
                async for _ in engine.submit(ask([5], "gone")):
                    pass

        folders = save_adapters(tmp_path)
        engine.pool.register("gone", folders["lora2"])
        (folders["lora2"] / "adapter_model.safetensors").write_bytes(b"")
        asyncio.run(fails())
