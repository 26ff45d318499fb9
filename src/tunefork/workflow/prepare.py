"""From the files that a spec names to rows that can be trained on, with nothing loaded yet."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.errors import DataError
from tunefork.core.events import DataChecked, Progress, Sink, Warned
from tunefork.data import (
    Example,
    Preflight,
    Rendered,
    Renderer,
    TokenRows,
    load_examples,
    load_tokenizer,
    preflight,
    preview,
    split,
)
from tunefork.models import Base, find_base
from tunefork.workflow.derive import longest_row
from tunefork.workflow.spec import Project

_REPLAY_FILE = Path(__file__).parents[1] / "evaluation" / "general" / "replay.jsonl"
_VALIDATION_SHARE = 0.1
_PREVIEWED_ROWS = 3
_PROGRESS_EVERY = 500


@dataclass(frozen=True)
class Prepared:
    """All that training and evaluation need to know of the data."""

    base: Base
    renderer: Renderer
    training: tuple[Example, ...]  # the user's rows, without replayed ones
    validation: tuple[Example, ...]
    rows: TokenRows  # training and replayed rows
    validation_rows: TokenRows | None
    n_replayed: int
    max_length: int
    check: Preflight
    preview: tuple[tuple[tuple[str, bool], ...], ...]  # (text, is trained) per token

    def data_hash(self) -> str:
        """Return one hash over every token and weight that the run sees."""
        held_out = self.validation_rows.hash() if self.validation_rows is not None else ""
        return self.rows.hash() if not held_out else f"{self.rows.hash()}+{held_out}"


def prepare(project: Project, sink: Sink) -> Prepared:
    """Read, check, split and render the data of a project.

    Raises:
        DataError: Something in it would spoil the run; all that was found, at once.
        ModelError: There is no such base.
    """
    spec = project.spec
    base = find_base(spec.base, relative_to=project.folder)
    renderer = Renderer(load_tokenizer(base.folder), spec.date)
    training, validation = _load(project)
    max_length = longest_row(spec, base)
    rendered = _render(renderer, training, sink)
    check = preflight(training, rendered, renderer, max_length)
    for finding in check.findings:
        sink(Warned(finding))
    kept = [rendered[index] for index in check.kept]
    replayed = _replay(renderer, spec.data.replay, len(kept), spec.training.seed, max_length)
    held_out = _held_out(renderer, validation, max_length)
    shown = tuple(tuple(row) for row in preview(kept, renderer.tokenizer, rows=_PREVIEWED_ROWS))
    sink(
        DataChecked(
            training_rows=len(kept),
            replayed_rows=len(replayed),
            validation_rows=len(held_out),
            tokens=check.n_tokens,
            trained_tokens=check.n_trained_tokens,
            preview=shown,
        )
    )
    return Prepared(
        base=base,
        renderer=renderer,
        training=tuple(training[index] for index in check.kept),
        validation=tuple(example for example, _ in held_out),
        rows=TokenRows.from_rendered([*kept, *replayed]),
        validation_rows=TokenRows.from_rendered(row for _, row in held_out) if held_out else None,
        n_replayed=len(replayed),
        max_length=max_length,
        check=check,
        preview=shown,
    )


def held_out_examples(project: Project, renderer: Renderer) -> tuple[Example, ...]:
    """Return the validation rows of a project, as `prepare` chooses them."""
    base = find_base(project.spec.base, relative_to=project.folder)
    validation = _load(project)[1]
    pairs = _held_out(renderer, validation, longest_row(project.spec, base))
    return tuple(example for example, _ in pairs)


def _load(project: Project) -> tuple[list[Example], list[Example]]:
    """Return training and validation examples."""
    spec = project.spec
    mapping = {str(key): column for key, column in (spec.data.map or {}).items()} or None
    training = load_examples(project.path(spec.data.train), mapping)
    if spec.data.validation is not None:
        return training, load_examples(project.path(spec.data.validation), mapping)
    return split(training, _VALIDATION_SHARE, spec.training.seed)


def _held_out(
    renderer: Renderer, validation: list[Example], max_length: int
) -> list[tuple[Example, Rendered]]:
    rendered = [(example, renderer.render(example)) for example in validation]
    fitting = [
        (example, row)
        for example, row in rendered
        if len(row.ids) <= max_length and any(row.weights)
    ]
    if validation and not fitting:
        raise DataError(
            f"every validation row is longer than {max_length} tokens or trains nothing",
            where=validation[0].where,
            hint="shorten the rows, or raise `training.max_length`",
        )
    return fitting


def _render(renderer: Renderer, examples: Sequence[Example], sink: Sink) -> list[Rendered]:
    rendered = []
    for example in examples:
        rendered.append(renderer.render(example))
        if len(rendered) % _PROGRESS_EVERY == 0:
            sink(Progress("reading rows", len(rendered), len(examples)))
    return rendered


def _replay(
    renderer: Renderer, share: float, n_rows: int, seed: int, max_length: int
) -> list[Rendered]:
    """Return general rows that make up `share` of all rows; the same ones for the same seed."""
    wanted = round(n_rows * share / (1 - share))
    if wanted == 0:
        return []
    general = load_examples(_REPLAY_FILE)
    order = random.Random(seed).sample(range(len(general)), len(general))
    chosen = [general[order[place % len(order)]] for place in range(wanted)]
    rendered = [renderer.render(example) for example in chosen]
    return [row for row in rendered if len(row.ids) <= max_length]


def read_curve(path: Path) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Return the (step, loss) points of training and of validation in a `metrics.jsonl`."""
    training, validation = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        point = json.loads(line)
        if "loss" in point:
            training.append((point["step"], point["loss"]))
        if "validation_loss" in point:
            validation.append((point["step"], point["validation_loss"]))
    return training, validation
