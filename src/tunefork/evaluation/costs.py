"""What each rung of the ladder costs, as a table of texts."""

from __future__ import annotations

from tunefork.core.units import bytes_text, duration_text
from tunefork.evaluation.gate import points
from tunefork.evaluation.ladder import Cost, Ladder

COST_COLUMNS = (
    "Way",
    "Score",
    "Tokens in",
    "Tokens out",
    "Time",
    "Money",
    "One answer (slow)",
    "Memory",
    "What it takes",
)
_NOT_KNOWN = "-"


def cost_rows(ladder: Ladder) -> list[tuple[str, ...]]:
    """Return a row of `COST_COLUMNS` for each rung.

    Tokens, time and money are of 1,000 answers; one answer is the median, and the
    95th of 100.
    """
    return [
        (
            rung.name,
            f"{points(rung.score.mean)} %",
            *_cost_texts(rung.climbed.cost),
            rung.climbed.effort,
        )
        for rung in ladder.rungs
    ]


def _cost_texts(cost: Cost) -> tuple[str, ...]:
    counts = (cost.tokens_in, cost.tokens_out)
    latency = (
        f"{_seconds(cost.latency_p50)} ({_seconds(cost.latency_p95)})"
        if cost.latency_p50 is not None and cost.latency_p95 is not None
        else _NOT_KNOWN
    )
    return (
        *(_NOT_KNOWN if count is None else f"{1000 * count:,.0f}" for count in counts),
        duration_text(1000 * cost.seconds),
        _NOT_KNOWN if cost.money is None else f"{cost.money:,.2f}",
        latency,
        _NOT_KNOWN if cost.memory_bytes is None else bytes_text(cost.memory_bytes),
    )


def _seconds(value: float) -> str:
    return f"{1000 * value:,.0f} ms" if value < 1 else f"{value:,.1f} s"
