"""One workload: screen every cell, then repeat the best ones of each contestant in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmarks.cells import OURS, Cell, Dtype, grid, variations, varied
from benchmarks.compare import Finalist, fastest, leanest, same_work
from benchmarks.measure import Outcome, Runner
from benchmarks.model import Model, get_model
from benchmarks.workers.common import Job
from benchmarks.workloads import Steps, Workload, make_steps


@dataclass(frozen=True)
class Effort:
    """How much to measure."""

    is_quick: bool = False
    rounds: int = 3  # repetitions of the best cells
    screened: int = 3  # counted steps of each cell at first
    repeated: int = 8  # counted steps of each repetition


@dataclass(frozen=True)
class Contest:
    """One workload, for one strategy."""

    workload: Workload
    runner: Runner
    learning_rate: float
    is_full: bool = False

    def measure(self, cell: Cell, counted: int, turn: int = 0) -> Outcome:
        """Measure one cell over `counted` steps."""
        return self.runner.run(cell, self.job(cell, counted, turn))

    def limit(self, cell: Cell, counted: int) -> float:
        """Return the real tokens/s of the bare matrix products of the steps `measure` times."""
        return self.runner.limit(cell, self.job(cell, counted))

    @cached_property
    def _model(self) -> Model:
        return get_model(self.workload.model)

    def job(self, cell: Cell, counted: int, turn: int = 0) -> Job:
        """Return what a worker is told, its rows written."""
        counted *= self.workload.more
        steps = make_steps(self.workload, self._model.vocabulary, counted)
        return Job(
            model=str(self._model.folder),
            adapter=None if self.is_full else str(self._model.adapter),
            rows=str(self._save_rows(steps, counted)),
            steps=steps.of(cell.order),
            warm_up=steps.warm_up,
            learning_rate=self.learning_rate,
            cell=cell.settings(),
            shared=self.workload.shared,
            round=turn,
        )

    def _save_rows(self, steps: Steps, counted: int) -> Path:
        name = self.workload.name.replace(" ", "-")
        path = self.runner.folder / f"rows-{name}-{counted}.npz"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            steps.rows.save(path)
        return path


def screen(
    contest: Contest, contestants: Sequence[str], allocators: Sequence[str], effort: Effort
) -> dict[str, list[Outcome]]:
    """Measure every cell of the grid, contestants in turn, then vary the further axes."""
    found: dict[str, list[Outcome]] = {contestant: [] for contestant in contestants}
    grids = [grid(contestant, is_quick=effort.is_quick) for contestant in contestants]
    for cells in zip(*grids, strict=True):
        for cell in cells:
            found[cell.contestant].append(_screened(contest, cell, effort))
    for contestant, outcomes in found.items():
        for axis in variations(contestant, allocators, is_quick=effort.is_quick):
            seen = {outcome.cell for outcome in outcomes}
            starts = [best.cell for best in (fastest(outcomes), leanest(outcomes)) if best]
            wanted = dict.fromkeys(cell for start in starts for cell in varied(start, axis))
            outcomes += [_screened(contest, cell, effort) for cell in wanted if cell not in seen]
    return found


def _screened(contest: Contest, cell: Cell, effort: Effort) -> Outcome:
    return judged(contest, contest.measure(cell, effort.screened), effort.screened)


def rescreen(
    contest: Contest, earlier: dict[str, list[Outcome]], effort: Effort
) -> dict[str, list[Outcome]]:
    """Measure only what did well on an earlier workload: the fastest and the leanest cells."""
    count = 1 if effort.is_quick else 3  # of each kind
    found: dict[str, list[Outcome]] = {}
    for contestant, outcomes in earlier.items():
        done = [outcome for outcome in outcomes if outcome.is_usable]
        by_speed = sorted(done, key=lambda outcome: -outcome.speed)[:count]
        by_peak = sorted(done, key=lambda outcome: outcome.peak)[:count]
        cells = dict.fromkeys(outcome.cell for outcome in by_speed + by_peak)
        found[contestant] = [_screened(contest, cell, effort) for cell in cells]
    return found


def repeat(
    contest: Contest, screened: dict[str, list[Outcome]], effort: Effort
) -> dict[str, dict[str, Finalist]]:
    """Measure each contestant's fastest and leanest cell in every round, in changing order.

    Returns:
        Per contestant that could do anything: `fastest` and `leanest`.
    """
    best = {
        contestant: {"fastest": first.cell, "leanest": small.cell}
        for contestant, outcomes in screened.items()
        if (first := fastest(outcomes)) and (small := leanest(outcomes))
    }
    cells = list(dict.fromkeys(cell for kinds in best.values() for cell in kinds.values()))
    rounds: dict[Cell, list[Outcome]] = {cell: [] for cell in cells}
    for turn in range(effort.rounds):
        shift = turn % max(1, len(cells))
        for cell in cells[shift:] + cells[:shift]:
            rounds[cell].append(contest.measure(cell, effort.repeated, turn + 1))
    done = {
        cell: (judged(contest, first, effort.repeated, turn=1), *others)
        for cell, (first, *others) in rounds.items()
        if not any(outcome.refused for outcome in (first, *others))
    }
    return {
        contestant: {
            kind: Finalist(cell, done[cell]) for kind, cell in kinds.items() if cell in done
        }
        for contestant, kinds in best.items()
    }


def reference(contest: Contest, cell: Cell, counted: int, turn: int = 0) -> Outcome:
    """Return a run of ours over the same rows in the same steps as a peer's cell."""
    dtype: Dtype = "float32" if cell.dtype == "float32" else "bf16"
    return contest.measure(Cell(OURS, dtype, order=cell.order), counted, turn)


def judged(contest: Contest, outcome: Outcome, counted: int, turn: int = 0) -> Outcome:
    """Return a peer's outcome with what shows whether it did the same work as we."""
    if outcome.refused or outcome.cell.contestant == OURS:
        return outcome
    ours = reference(contest, outcome.cell, counted, turn)
    return outcome if ours.refused else replace(outcome, work=same_work(ours, outcome))
