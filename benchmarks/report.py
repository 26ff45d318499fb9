"""Turn a workload's measurements into plain data, and that into Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cells import OURS
from benchmarks.compare import Finalist, speed_ratio
from benchmarks.measure import DISTURBED, Outcome

_WORDS = ("who", "cell", "work", "what", "against")  # columns of words; all others hold numbers
_NAMES = {"ours": "tunefork", "trl": "TRL", "trainer": "Trainer + peft"}


def workload_record(
    screened: dict[str, list[Outcome]],
    finalists: dict[str, dict[str, Finalist]],
    limit: float | None,
) -> dict[str, Any]:
    """Return everything known about one workload; `ratio_to_best_peer` is null where unproven."""
    works = {
        contestant: kinds["fastest"].rounds[0].work
        for contestant, kinds in finalists.items()
        if "fastest" in kinds and kinds["fastest"].rounds[0].work
    }
    without = _without_the_same_work(screened, finalists)
    peer = _best_peer(finalists, lambda finalist: -finalist.speed, "fastest")
    lean_peer = _best_peer(finalists, lambda finalist: finalist.peak, "leanest")
    ours = finalists.get(OURS, {})
    record: dict[str, Any] = {"ratio_to_best_peer": None, "best_peer": peer}
    if peer and "fastest" in ours:
        ratio = speed_ratio(ours["fastest"], finalists[peer]["fastest"])
        is_same = works.get(peer, {}).get("is_same", False) and not without
        record["ratio_to_best_peer"] = ratio["ratio"] if is_same else None
        record["ratio_rounds"] = ratio["rounds"]
    record |= {
        "same_work": works,
        "peers_without_the_same_work": without,
        "memory": _memory(finalists, peer, lean_peer),
        "limit_tokens_per_second": limit,
        "share_of_limit": ours["fastest"].speed / limit if limit else None,
        "finalists": {
            contestant: {kind: _finalist_record(finalist) for kind, finalist in kinds.items()}
            for contestant, kinds in finalists.items()
        },
        "grid": [_outcome_record(outcome) for found in screened.values() for outcome in found],
    }
    return record


def markdown(record: dict[str, Any]) -> str:
    """Return the whole report as Markdown."""
    machine = record["machine"]
    lines = [
        f"# {record['title']}",
        "",
        f"{machine['processor']} (family/model {machine['family_model']}), {machine['cores']} "
        f"cores, {', '.join(machine['flags'])}; " + _versions(record["versions"]) + ".",
        f"{record['settings']} Measured {record['date']}"
        + (" (quick)." if record["is_quick"] else "."),
        "",
    ]
    for name, workload in record["workloads"].items():
        lines += [f"## {name}: {workload['what']}", "", *_workload_lines(workload), ""]
    for name, sweep in record["sweeps"].items():
        lines += [f"## Sweep: {name}", "", *_sweep_lines(sweep), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    ruler = ["---" if name in _WORDS else "---:" for name in header]
    return ["| " + " | ".join(cells) + " |" for cells in (header, ruler, *rows)]


def _without_the_same_work(
    screened: dict[str, list[Outcome]], finalists: dict[str, dict[str, Finalist]]
) -> list[str]:
    """Return the peers that were measured, but in no cell did what we did."""
    measured = [who for who, found in screened.items() if any(not o.refused for o in found)]
    return [who for who in measured if who != OURS and "fastest" not in finalists.get(who, {})]


def _best_peer(finalists: dict[str, dict[str, Finalist]], key: Any, kind: str) -> str | None:
    peers = [name for name, kinds in finalists.items() if name != OURS and kind in kinds]
    return min(peers, key=lambda name: key(finalists[name][kind]), default=None)


def _memory(
    finalists: dict[str, dict[str, Finalist]], peer: str | None, lean_peer: str | None
) -> dict[str, Any]:
    """Return our leanest cell's peak as a share of the leanest peer's, and fastest to fastest."""
    ours = finalists.get(OURS, {})
    found: dict[str, Any] = {"leanest_peer": lean_peer}
    if lean_peer and "leanest" in ours:
        found["leanest_share"] = ours["leanest"].peak / finalists[lean_peer]["leanest"].peak
    if peer and "fastest" in ours:
        found["fastest_share"] = ours["fastest"].peak / finalists[peer]["fastest"].peak
    if lean_peer and "fastest" in ours:
        theirs = finalists[lean_peer]["leanest"].peak
        found["our_fastest_to_leanest_peer"] = ours["fastest"].peak / theirs
    return found


def _finalist_record(finalist: Finalist) -> dict[str, Any]:
    first = finalist.rounds[0].result
    counted = len(first["losses"])
    return {
        "cell": finalist.cell.settings(),
        "name": finalist.cell.name,
        "tokens_per_second": finalist.speed,
        "rows_per_second": finalist.speed * first["rows_per_second"] / first["tokens_per_second"],
        "tokens_per_second_rounds": [outcome.speed for outcome in finalist.rounds],
        "peak_bytes": finalist.peak,
        "peak_training_bytes": [o.result["peak_training_bytes"] for o in finalist.rounds],
        "peak_absolute_bytes": [o.result["peak_absolute_bytes"] for o in finalist.rounds],
        "steps": counted,
        "other_cores": max(outcome.result["other_cores"] for outcome in finalist.rounds),
        "losses": first["losses"],
        "gradient_norms": first["gradient_norms"],
        "versions": first["versions"],
    }


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    record = {"contestant": outcome.cell.contestant, "name": outcome.cell.name}
    if outcome.refused:
        return record | {"refused": outcome.refused}
    kept = (
        "tokens_per_second",
        "other_cores",
        "peak_bytes",
        "peak_training_bytes",
        "losses",
        "gradient_norms",
    )
    return record | {key: outcome.result[key] for key in kept} | {"work": outcome.work}


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _workload_lines(workload: dict[str, Any]) -> list[str]:
    rows = [
        (
            _NAMES[contestant],
            f"{kind}: {found['name']}",
            f"{found['tokens_per_second']:,.0f}",
            f"{found['rows_per_second']:.2f}",
            f"{found['peak_bytes'] / 1e6:,.0f}",
            f"{found['losses'][-1]:.4f}",
        )
        for contestant, kinds in workload["finalists"].items()
        for kind, found in kinds.items()
    ]
    header = ("who", "cell", "tokens/s", "rows/s", "peak MB", "last loss")
    lines = [_verdict(workload), "", *table(header, rows), "", "All cells, screened:", ""]
    grid = [
        (
            _NAMES[cell["contestant"]],
            cell["name"],
            "refused" if "refused" in cell else f"{cell['tokens_per_second']:,.0f}",
            "" if "refused" in cell else f"{cell['peak_bytes'] / 1e6:,.0f}",
            "" if "refused" in cell else _remarks(cell),
        )
        for cell in workload["grid"]
    ]
    lines += table(("who", "cell", "tokens/s", "peak MB", "work"), grid)
    reasons = dict.fromkeys(
        f"- {_NAMES[cell['contestant']]}, {cell['name']}: {cell['refused']}"
        for cell in workload["grid"]
        if "refused" in cell
    )
    return [*lines, "", "Refused:", "", *reasons] if reasons else lines


def _verdict(workload: dict[str, Any]) -> str:
    peer = workload["best_peer"]
    if peer is None:
        return "No ratio: no peer was measured doing the same work."
    work = workload["same_work"].get(peer)
    if workload["ratio_to_best_peer"] is None:
        others = workload["peers_without_the_same_work"] or [peer]
        names = " or ".join(_NAMES[other] for other in others)
        gaps = f" ({_gaps(work)})" if work else ""
        return f"No ratio: the work was not shown to be the same as that of {names}{gaps}."
    text = (
        f"**{workload['ratio_to_best_peer']:.2f} times** the tokens/s of the best peer, "
        f"{_NAMES[peer]} (per round {_ratios(workload['ratio_rounds'])}); "
        f"over {work['steps']} steps losses within {work['loss_gap']:.4f}, gradient norms within "
        f"{work['norm_gap']:.2%}, distance moved within {work['move_gap']:.2%}."
    )
    memory = workload["memory"]
    if "leanest_share" in memory:
        text += (
            f" Memory: leanest to leanest {memory['leanest_share']:.0%} of "
            f"{_NAMES[memory['leanest_peer']]}'s, fastest to fastest {memory['fastest_share']:.0%}."
        )
    finalists = [found for kinds in workload["finalists"].values() for found in kinds.values()]
    busiest = max(found["other_cores"] for found in finalists)
    if busiest > DISTURBED:
        text += f" **Disturbed**: other programs used up to {busiest:.1f} cores meanwhile."
    if workload["share_of_limit"] is not None:
        text += (
            f" The bare matrix products run at {workload['limit_tokens_per_second']:,.0f} "
            f"tokens/s: we reach {workload['share_of_limit']:.0%} of that."
        )
    return text


def _gaps(work: dict[str, Any]) -> str:
    if not work:
        return ""
    gaps = (
        f"loss {work['loss_gap']:.4f}, gradient {work['norm_gap']:.1%}, "
        f"moved {work['move_gap']:.1%} apart"
    )
    return "same" if work["is_same"] else f"another, not counted: {gaps}"


def _remarks(cell: dict[str, Any]) -> str:
    parts = [_gaps(cell["work"])]
    if cell["other_cores"] > DISTURBED:
        parts.append(f"disturbed: other programs used {cell['other_cores']:.1f} cores")
    return "; ".join(filter(None, parts))


def _ratios(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _sweep_lines(sweep: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            point["what"],
            _NAMES[point["peer"]],
            *(f"{point[key]:,.0f}" if point[key] else "refused" for key in ("ours", "theirs")),
            f"{point['ratio']:.2f}" if point["ratio"] else "",
        )
        for point in sweep
    ]
    return table(("what", "against", "tunefork tokens/s", "peer tokens/s", "ratio"), rows)
