"""How much the engine does at once, and what it tells of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineSettings:
    """The engine's bounds."""

    rows: int = 32  # answers at once, rounded up to whole buckets
    max_length: int | None = None  # of prompt and answer; by default what the base was made for
    prefill_tokens: int = 256  # of prompts, between two steps of the running rows
    waiting: int = 512  # requests that wait at most
    waiting_each: int = 256  # of one owner
    prefix_bytes: int = 256 << 20  # keys and values of prompts that are kept for later requests
    threads: int | None = None  # that a step is spread over; by default as many as PyTorch takes


@dataclass(frozen=True)
class EngineStats:
    """What the engine is doing, and what it has done since it began."""

    running: int
    waiting: int
    answers: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    steps: int
    tokens_per_second: float  # of answers, over the last seconds of work
    prefix_bytes: int
    adapters_known: int
    adapters_resident: int
    adapter_bytes: int
    is_alive: bool
    adapter_loads: int = 0
    adapter_evictions: int = 0
