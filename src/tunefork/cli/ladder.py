"""Print a ladder: a line for each rung, and what to take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from tunefork.cli import show
from tunefork.core.units import duration_text

_COLUMNS = ("", "golden questions", "over the base", "1,000 answers", "tokens in", "one answer")


def print_ladder(result: Mapping[str, Any]) -> None:
    """Print the rungs of a result, and why others are missing."""
    has_money = any(rung["cost"]["money"] is not None for rung in result["rungs"].values())
    columns = (*_COLUMNS, "money") if has_money else _COLUMNS
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    recommended = (result["recommendation"] or {}).get("rung")
    for name, rung in result["rungs"].items():
        cells = _cells(name, rung)[: len(columns)]
        table.add_row(*cells, style="bold" if name == recommended else "")
    show.talk.print(table)
    for name, reason in result["skipped"].items():
        show.talk.print(f"`{name}` was not measured: {reason}", soft_wrap=True, markup=False)
    if result.get("break_even") is not None:
        show.talk.print(
            f"The training is paid back, in machine time, after {result['break_even']:,} answers "
            "by what a prompt takes longer."
        )


def print_recommendation(result: Mapping[str, Any]) -> None:
    """Print what to take, and why."""
    found = result["recommendation"]
    if found is None:
        return
    title = found["rung"] or "no recommendation"
    show.talk.print(Panel(escape(found["reason"]), title=f"[bold]{title}[/]"))


def _cells(name: str, rung: Mapping[str, Any]) -> list[str]:
    cost, over = rung["cost"], rung["over_base"]
    gain = "" if over is None else f"{100 * over['gain']:+.1f} ({_p_text(over['p_corrected'])})"
    tokens = cost["per_1000"]["tokens_in"]
    latency = cost["latency_p50"]
    return [
        name,
        f"{rung['score']:.1%} ({rung['low']:.1%} to {rung['high']:.1%})",
        gain,
        duration_text(cost["per_1000"]["seconds"]),
        "-" if tokens is None else f"{tokens:,}",
        "-" if latency is None else f"{latency:.2f} s",
        "-" if cost["money"] is None else f"{cost['money']:.4g}",
    ]


def _p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
