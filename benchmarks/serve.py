"""Many adapters on one base: `python -m benchmarks.serve --json`.

The engine on `tiny`, with rank-8 adapters that have a random effect, beside transformers one
request at a time. Measured are tokens/s of sixteen requests on one adapter and on sixteen, what
exchanging adapters adds, loading from disk, memory, and the time to the first token while others
are being answered. Results: `benchmarks/results/serve.*`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.places import RESULTS, publish, state
from tunefork.core.files import new_folder
from tunefork.core.memory import resident_bytes
from tunefork.data.tokenizer import load_tokenizer
from tunefork.inference import AdapterPool, Engine, EngineSettings, Request, Sampling, Ticket
from tunefork.models import find_base, load_model
from tunefork.strategies import Lora, LoraSettings, Stacks

_RANK, _PROMPT = 8, 40
_THREADS = torch.get_num_threads()
_NO_CACHE = EngineSettings(rows=32, prefix_bytes=0, threads=_THREADS)


@dataclass(frozen=True)
class Size:
    """How much is measured; adapters are more than rows and twice the cold ones together."""

    rows: int = 16
    answer: int = 96  # tokens
    swaps: int = 200
    cold: int = 25
    adapters: int = 200


QUICK = Size(rows=4, answer=6, swaps=4, cold=2, adapters=9)


def measure(dtype: torch.dtype, rounds: int, size: Size) -> dict[str, Any]:
    """Return the record of one number format."""
    folders = _adapters(size.adapters)
    memory = _memory(dtype, folders)
    rates: dict[str, list[float]] = {}
    with _engine(dtype, folders) as engine:
        sixteen = [f"a{number}" for number in range(size.rows)]
        mixes: dict[str, list[str | None]] = {
            "base": [None] * size.rows,
            "one_adapter": ["a0"] * size.rows,
            "sixteen_adapters": list(sixteen),
        }
        for keys in mixes.values():
            _rate(engine, keys, 16)
        for _ in range(rounds):
            for name, keys in mixes.items():
                rates.setdefault(name, []).append(_rate(engine, keys, size.answer))
        swap = _swap(engine, size)
        first = _first_token(engine, size)
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(_THREADS,)) as alone:
        peers = alone.submit(_peers, dtype, folders[:4], size).result()
    speed = {name: median(found) for name, found in rates.items()}
    best = max(peers.values())
    return {
        "ratio_to_best_peer": speed["sixteen_adapters"] / best,
        "sixteen_over_one": speed["sixteen_adapters"] / speed["one_adapter"],
        "tokens_per_second": speed,
        "rounds": rates,
        "peers_one_at_a_time": peers,
        "swap_ms": swap,
        "stack_ms": _stack(dtype, folders[: size.rows + 1], size),
        "cold_load_ms": memory.pop("cold_load_ms"),
        "memory": memory,
        "first_token_under_load_ms": first,
    }


def _adapters(count: int) -> list[Path]:
    """Return the folders of adapters with a random effect, made at the first call."""
    base, places = find_base("tiny"), state() / "models" / f"serve-rank{_RANK}"
    model: Any = None
    for number in range(count):
        folder = places / str(number)
        if folder.is_dir():
            continue
        model = model or load_model(base, device="cpu", dtype=torch.float32)
        strategy = Lora(LoraSettings(rank=_RANK))
        strategy.attach(model, number)
        generator = torch.Generator().manual_seed(number)
        for parameter in strategy.parameters(model).values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.add_(noise, alpha=0.02)
        with new_folder(folder) as partial:
            strategy.save(model, partial, base)
        strategy.take(model)
    return [places / str(number) for number in range(count)]


def _pool(dtype: torch.dtype, folders: Sequence[Path]) -> AdapterPool:
    pool = AdapterPool(load_model(find_base("tiny"), device="cpu", dtype=dtype))
    for number, folder in enumerate(folders):
        pool.register(f"a{number}", folder)
    return pool


@contextlib.contextmanager
def _engine(dtype: torch.dtype, folders: Sequence[Path]) -> Iterator[Engine]:
    """Run an engine that never ends an answer before its tokens are used up."""
    pool = _pool(dtype, folders)
    tokenizer = load_tokenizer(find_base("tiny").folder)
    engine = Engine(pool.model, tokenizer, (), pool, _NO_CACHE)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def _ask(engine: Engine, key: str | None, number: int, n_prompt: int, n_answer: int) -> Ticket:
    prompt = tuple(5 + (7919 * (number + 1) * (at + 1)) % 4000 for at in range(n_prompt))
    return engine.submit(Request(prompt, Sampling(n_answer, temperature=0.0), key))


def _rate(engine: Engine, keys: Sequence[str | None], n_tokens: int) -> float:
    """Return tokens/s of requests made at once, prompts included in the time."""
    begin = time.perf_counter()
    tickets = [_ask(engine, key, at, _PROMPT, n_tokens) for at, key in enumerate(keys)]
    for ticket in tickets:
        for _ in ticket:
            pass
    return len(keys) * n_tokens / (time.perf_counter() - begin)


def _swap(engine: Engine, size: Size) -> dict[str, float]:
    """Time single tokens, one after another, with the adapter of the one before or another."""
    found: dict[bool, list[float]] = {True: [], False: []}
    key = "a0"
    for number in range(2 * size.swaps):
        is_other = number % 2 == 1
        key = f"a{(number // 2 + is_other) % size.rows}" if is_other else key
        begin = time.perf_counter()
        for _ in _ask(engine, key, number, 1, 1):
            pass
        found[is_other].append((time.perf_counter() - begin) * 1e3)
    same, other = found[False], found[True]
    return {
        "same_p50": median(same),
        "other_p50": median(other),
        "same_p99": _quantile(same, 0.99),
        "other_p99": _quantile(other, 0.99),
        "added_p50": median(other) - median(same),
        "added_p99": _quantile(other, 0.99) - _quantile(same, 0.99),
    }


def _stack(dtype: torch.dtype, folders: Sequence[Path], size: Size) -> dict[str, float]:
    """Time what one row's change of adapter costs in a batch of sixteen, by itself."""
    pool = _pool(dtype, folders)
    residents = [pool.residents.add(folder) for folder in folders]
    stacks = Stacks(pool.residents.sites, "cpu")
    wanted = dict(enumerate(residents[: size.rows]))
    stacks.added(size.rows, wanted)
    spare, found = residents[-1], []
    for number in range(size.swaps):
        row = number % size.rows
        wanted = {**wanted, row: spare}
        spare = residents[row]
        residents[row] = wanted[row]
        begin = time.perf_counter()
        stacks.added(size.rows, wanted)
        found.append((time.perf_counter() - begin) * 1e3)
    return {"p50": median(found), "p99": _quantile(found, 0.99)}


def _memory(dtype: torch.dtype, folders: Sequence[Path]) -> dict[str, Any]:
    """Load all adapters; return how memory grew, and how long each took."""
    pool = _pool(dtype, folders)
    entries = [pool.find(key) for key in pool.keys]
    pool.acquire(entries[0])  # what is made once for all
    gc.collect()
    before, times = resident_bytes(), []
    for entry in entries[1:]:
        begin = time.perf_counter()
        pool.acquire(entry)
        times.append((time.perf_counter() - begin) * 1e3)
    gc.collect()
    grown = resident_bytes() - before
    own = pool.resident_bytes * (len(entries) - 1) // len(entries)
    return {
        "adapters": len(entries),
        "grown_bytes": grown,
        "adapter_bytes": own,
        "grown_over_own": grown / own,
        "cold_load_ms": {"p50": median(times), "p99": _quantile(times, 0.99), "most": max(times)},
    }


def _first_token(engine: Engine, size: Size) -> dict[str, float]:
    """Time to the first token of requests that come one by one while sixteen others run."""
    found: dict[str, list[float]] = {"resident": [], "cold": []}
    running = [_ask(engine, f"a{number}", number, _PROMPT, 900) for number in range(size.rows)]
    for number in range(2 * size.cold):
        kind = "cold" if number % 2 else "resident"
        key = f"a{size.adapters - 1 - number}" if number % 2 else f"a{number % size.rows}"
        begin = time.perf_counter()
        pieces = iter(_ask(engine, key, number, _PROMPT, 2))
        next(pieces)
        found[kind].append((time.perf_counter() - begin) * 1e3)
        for _ in pieces:
            pass
    for ticket in running:
        ticket.cancel()
    return {
        f"{kind}_{name}": _quantile(times, share)
        for kind, times in found.items()
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }


def _peers(dtype: torch.dtype, folders: Sequence[Path], size: Size) -> dict[str, float]:
    """Return tokens/s of transformers, one request at a time: the base, and adapters by PEFT."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(find_base("tiny").folder, dtype=dtype).eval()
    found = {"transformers, no adapter": _generate(base, [None] * 4, size.answer)}
    tuned = PeftModel.from_pretrained(base, str(folders[0]), adapter_name="a0")
    for number, folder in enumerate(folders[1:], 1):
        tuned.load_adapter(str(folder), adapter_name=f"a{number}")
    found["transformers and PEFT"] = _generate(
        tuned, [f"a{number}" for number in range(4)], size.answer
    )
    return found


@torch.no_grad()
def _generate(model: Any, keys: Sequence[str | None], n_tokens: int) -> float:
    ids = torch.arange(5, 5 + _PROMPT).unsqueeze(0)
    settings = {"do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, **settings)
    begin = time.perf_counter()
    for key in keys:
        if key is not None:
            model.set_adapter(key)
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n_tokens,
            min_new_tokens=n_tokens,
            **settings,
        )
        assert found.shape[1] == _PROMPT + n_tokens, "it stopped early"
    return len(keys) * n_tokens / (time.perf_counter() - begin)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def markdown(record: dict[str, Any]) -> str:
    """Return the record as a page."""
    lines = [
        "# Many adapters on one base",
        "",
        f"`tiny`, requests of {_PROMPT} tokens at once, {json.dumps(record['size'])}; LoRA of "
        f"rank {_RANK}. Peers answer one request at a time.",
    ]
    for name, found in record["formats"].items():
        lines += ["", f"## {name}", "", "| what | value |", "|---|---|"]
        flat = {key: value for key, value in found.items() if key != "rounds"}
        for key, value in flat.items():
            pairs = value.items() if isinstance(value, dict) else [("", value)]
            lines += [f"| {key} {part} | {number:,.4g} |" for part, number in pairs]
    return "\n".join([*lines, "", f"Machine: {json.dumps(record['machine'])}", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="little of everything: a try")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else Size()
    torch.set_num_threads(1)  # as in the server: who measures has no team of threads
    formats = {name: measure(getattr(torch, name), options.rounds, size) for name in options.dtype}
    record = {
        "ratio_to_best_peer": min(found["ratio_to_best_peer"] for found in formats.values()),
        "formats": formats,
        "size": asdict(size),
        "machine": describe(),
        "date": datetime.date.today().isoformat(),
    }
    publish("serve", record, markdown(record), options.out, as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
