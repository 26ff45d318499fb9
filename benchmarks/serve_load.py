"""Many clients at once against `tunefork serve` on `tiny`: errors, latency, memory.

    python -m benchmarks.serve_load --clients 500 --seconds 120 --json

Every client asks, reads the answer, and asks again; half of them as streams. Who is told 429 waits
as long as the answer says. Client and server share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

_WORDS = ("cat", "dog", "sun", "rain", "bread", "ship", "tree", "book", "moon", "river", "stone")
_MOST_TOKENS = (8, 32)
_START_S = 120


@dataclass
class Tally:
    """What was seen."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of each answer, from question to end
    first_s: list[float] = field(default_factory=list)  # of streams: to the first piece
    tokens: int = 0
    resident: list[int] = field(default_factory=list)  # bytes of the server, each second


@contextmanager
def served(home: Path) -> Iterator[tuple[str, int]]:
    """Start a server, and give its base URL and its process number."""
    command = [sys.executable, "-m", "tunefork.cli", "serve", "--port=0"]
    log = home / "serve.log"
    with log.open("wb") as output:
        environment = {**os.environ, "TUNEFORK_HOME": str(home)}
        process = subprocess.Popen(command, env=environment, stderr=output)
    try:
        end = time.monotonic() + _START_S
        while (found := re.search(r"Serving at (\S+)", log.read_text())) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait()


async def _client(number: int, web: httpx2.AsyncClient, url: str, end: float, seen: Tally) -> None:
    draw = random.Random(number)
    await asyncio.sleep(draw.random())
    while time.monotonic() < end:
        question = f"What is a {draw.choice(_WORDS)}, and what is a {draw.choice(_WORDS)}?"
        body: dict[str, Any] = {
            "model": "tiny",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": draw.randint(*_MOST_TOKENS),
            "seed": draw.randrange(10**6),
            "stream": number % 2 == 0,
        }
        if body["stream"]:
            body["stream_options"] = {"include_usage": True}
        began = time.monotonic()
        try:
            async with web.stream("POST", f"{url}/chat/completions", json=body) as answer:
                await _read(answer, began, seen)
        except httpx2.HTTPError as error:
            seen.statuses[type(error).__name__] += 1
            continue
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers["retry-after"]) * (0.5 + draw.random()))


async def _read(answer: httpx2.Response, began: float, seen: Tally) -> None:
    lines: list[str] = []
    async for line in answer.aiter_lines():
        if not lines and answer.status_code == 200 and line.startswith("data:"):
            seen.first_s.append(time.monotonic() - began)
        lines.append(line)
    status = str(answer.status_code)
    if answer.status_code == 200:
        text = "".join(lines)
        found = re.findall(r'"completion_tokens":\s*(\d+)', text)
        is_whole = bool(found) and '"error"' not in text
        seen.tokens += int(found[-1]) if found else 0
        seen.seconds.append(time.monotonic() - began)
        status = status if is_whole else "cut"
    seen.statuses[status] += 1


async def _watch(pid: int, end: float, seen: Tally) -> None:
    process = psutil.Process(pid)
    while time.monotonic() < end:
        seen.resident.append(process.memory_info().rss)
        await asyncio.sleep(1)


async def _run(url: str, pid: int, n_clients: int, seconds: float) -> Tally:
    seen, end = Tally(), time.monotonic() + seconds
    limits = httpx2.Limits(max_connections=n_clients, max_keepalive_connections=n_clients)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as web:
        clients = [_client(number, web, url, end, seen) for number in range(n_clients)]
        await asyncio.gather(_watch(pid, end, seen), *clients)
    return seen


def _quantile(values: list[float], share: float) -> float | None:
    ranked = sorted(values)
    return round(ranked[int(share * (len(ranked) - 1))], 3) if ranked else None


def measure(n_clients: int, seconds: float) -> dict[str, Any]:
    """Return what many clients see of a server."""
    with tempfile.TemporaryDirectory() as home, served(Path(home)) as (url, pid):
        seen = asyncio.run(_run(url, pid, n_clients, seconds))
    quarter = max(1, len(seen.resident) // 4)
    return {
        "clients": n_clients,
        "seconds": seconds,
        "answers": seen.statuses["200"],
        "too_many": seen.statuses["429"],
        "errors": {k: v for k, v in seen.statuses.items() if k not in ("200", "429")},
        "answers_per_second": round(seen.statuses["200"] / seconds, 1),
        "tokens_per_second": round(seen.tokens / seconds, 1),
        "p50_s": _quantile(seen.seconds, 0.5),
        "p95_s": _quantile(seen.seconds, 0.95),
        "p99_s": _quantile(seen.seconds, 0.99),
        "first_token_p50_s": _quantile(seen.first_s, 0.5),
        "first_token_p95_s": _quantile(seen.first_s, 0.95),
        "resident_bytes_early": max(seen.resident[:quarter]),
        "resident_bytes_late": max(seen.resident[-quarter:]),
    }


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.clients, given.seconds)
    print(json.dumps(found) if given.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
