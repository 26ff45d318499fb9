"""`/metrics`: numbers for Prometheus, of the server as a whole.

Labels are routes, statuses, states and the names that the operator gave to bases; no tenant's
model, file, key or word is among them, so their number is bounded whatever is asked. What other
bases do is told as one, `other`. See docs/operate.md for who may read it.
"""

from __future__ import annotations

import weakref
from collections import Counter as Tally
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from tunefork import __version__
from tunefork.core.errors import RunError
from tunefork.inference.engine import EngineStats
from tunefork.serving.catalogue import Host
from tunefork.serving.context import Context
from tunefork.serving.errors import RESPONSES
from tunefork.serving.job_states import STATES
from tunefork.serving.ready import Readiness, free_bytes
from tunefork.serving.tables import JobRow
from tunefork.serving.watch import Answered

router = APIRouter(tags=["health"], responses=RESPONSES)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_OTHER = "other"
_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What engines count up: the metric's name, what it is, and the field of their statistics.
_COUNTED = (
    ("prompt_tokens", "Tokens of prompts that engines took in", "prompt_tokens"),
    ("cached_tokens", "Tokens of prompts that the prefix cache saved", "cached_tokens"),
    ("completion_tokens", "Tokens that engines wrote", "completion_tokens"),
    ("engine_answers", "Answers that engines gave to their end", "answers"),
    ("engine_failures", "Answers that engines could not give", "failures"),
    ("engine_steps", "Steps that engines computed", "steps"),
    ("adapter_loads", "Adapters that were put on a base", "adapter_loads"),
    ("adapter_evictions", "Adapters that were taken off a base", "adapter_evictions"),
)
_HELD = (
    ("adapters_known", "Adapters that can be asked for", "adapters_known"),
    ("adapters_resident", "Adapters in memory", "adapters_resident"),
    ("adapter_bytes", "Memory of the adapters in it", "adapter_bytes"),
    ("prefix_cache_bytes", "Memory of the prefix cache", "prefix_bytes"),
)


class Metrics:
    """Counts requests, and shows the state of the rest when it is asked for."""

    def __init__(self, context: Context, readiness: Readiness) -> None:
        self._registry = registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "tunefork_http_requests", "Requests that were answered", labels, registry=registry
        )
        self._seconds = Histogram(
            "tunefork_http_request_seconds",
            "Time from a request to the last byte of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_progress = Gauge(
            "tunefork_http_requests_in_progress", "Requests under way", registry=registry
        )
        ProcessCollector(registry=registry)
        registry.register(_State(context, readiness))

    def begin(self) -> None:
        """Count a request that has come."""
        self._in_progress.inc()

    def tell(self, answered: Answered) -> None:
        """Count a request that has ended."""
        self._in_progress.dec()
        status = str(answered.status)
        self._requests.labels(answered.seen.method, answered.route, status).inc()
        self._seconds.labels(answered.route).observe(answered.seconds)

    def text(self) -> str:
        """Return all of it in Prometheus's format."""
        return generate_latest(self._registry).decode()


class _State(Collector):
    """What is so at the moment: engines, jobs, disk."""

    def __init__(self, context: Context, readiness: Readiness) -> None:
        self._context = context
        self._readiness = readiness
        self._engines = _Engines()

    def collect(self) -> Iterator[Metric]:
        yield _gauge("build_info", "The version that runs", ("version",), [((__version__,), 1)])
        checks = self._readiness.checks()
        ready = [((name,), float(is_well)) for name, is_well in checks.items()]
        yield _gauge("ready", "Whether a check of /ready is well", ("check",), ready)
        free = float(free_bytes(self._context))
        yield _gauge("disk_free_bytes", "Room on the disk of the home folder", (), [((), free)])
        jobs = self._jobs()
        if jobs is not None:
            yield _gauge("jobs", "Fine-tuning jobs", ("status",), jobs)
        backend = self._context.catalogue.backend
        yield from self._engines.collect(backend.loaded(), _names(backend.bases))

    def _jobs(self) -> list[tuple[tuple[str], float]] | None:
        query = select(JobRow.state, func.count()).group_by(JobRow.state)
        try:
            with self._context.store.reading() as session:
                found = {state: n for state, n in session.execute(query)}  # noqa: C416  typed rows
        except RunError:  # `ready` tells it
            return None
        return [((state,), float(found.get(state, 0))) for state in STATES]


class _Engines:
    """Engines by base. What one counted stays counted when its base leaves memory."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[weakref.ref[Any], str, EngineStats]] = {}
        self._gone: Tally[tuple[str, str]] = Tally()

    def collect(self, hosts: Sequence[Host], names: dict[str, str]) -> Iterator[Metric]:
        by_base: dict[str, list[EngineStats]] = {name: [] for name in names.values()}
        seen: dict[int, tuple[weakref.ref[Any], str, EngineStats]] = {}
        for host in hosts:
            label, stats = names.get(host.name, _OTHER), host.decoder.stats()
            by_base.setdefault(label, []).append(stats)
            seen[id(host.decoder)] = (weakref.ref(host.decoder), label, stats)
        self._bury(seen)
        rows = [
            ((base, state), float(sum(getattr(each, state) for each in found)))
            for base, found in by_base.items()
            for state in ("running", "waiting")
        ]
        yield _gauge("engine_rows", "Answers being computed or waited for", ("base", "state"), rows)
        for name, what, field in _HELD:
            held = [((base,), _sum(found, field)) for base, found in by_base.items()]
            yield _gauge(name, what, ("base",), held)
        for base in {base for base, _ in self._gone}:
            by_base.setdefault(base, [])
        for name, what, field in _COUNTED:
            family = CounterMetricFamily(f"tunefork_{name}", what, labels=("base",))
            for base, found in by_base.items():
                family.add_metric((base,), _sum(found, field) + self._gone[base, field])
            yield family

    def _bury(self, seen: dict[int, tuple[weakref.ref[Any], str, EngineStats]]) -> None:
        """Keep what engines that are no more have counted, as it was last seen."""
        for number, (known, label, stats) in self._last.items():
            if number in seen and seen[number][0]() is known():
                continue
            for _, _, field in _COUNTED:
                self._gone[label, field] += getattr(stats, field)
        self._last = seen


def _sum(found: Sequence[EngineStats], field: str) -> float:
    return float(sum(getattr(each, field) for each in found))


def _names(bases: Any) -> dict[str, str]:
    """Return the operator's name of each base by its address: the first where there are several."""
    return {address: name for name, address in reversed(list(bases.items()))}


def _gauge(
    name: str,
    what: str,
    labels: Sequence[str],
    values: Sequence[tuple[tuple[str, ...], float]],
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"tunefork_{name}", what, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Any:
    """Return the numbers of this server, for Prometheus."""
    found = request.app.state.metrics
    assert isinstance(found, Metrics)
    return PlainTextResponse(found.text(), media_type=_TYPE)
