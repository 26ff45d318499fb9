"""From the files that a spec names to rows that can be trained on, with nothing loaded yet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunefork.core.events import DataChecked, Progress, Sink, Warned, no_sink
from tunefork.core.hashing import hash_json
from tunefork.data import (
    Example,
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
from tunefork.training import TrainingData
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
    data: TrainingData
    max_length: int
    findings: tuple[str, ...]  # what the user should know of the data, as sentences
    preview: tuple[tuple[tuple[str, bool], ...], ...]  # (text, is trained) per token

    def data_hash(self) -> str:
        """Return one hash over every token and weight that the run may see."""
        parts = (self.data.rows, self.data.validation, self.data.replay)
        hashes = [part.hash() if part is not None else None for part in parts]
        return hash_json([*hashes, self.data.n_replayed])


def prepare(project: Project, sink: Sink) -> Prepared:
    """Read, check, split and render the data of a project.

    Raises:
        DataError: Something in it would spoil the run; all that was found, at once.
        ModelError: There is no such base.
    """
    spec = project.spec
    base = find_base(spec.base, relative_to=project.folder)
    renderer = Renderer(load_tokenizer(base.folder), spec.date)
    max_length = longest_row(spec, base)
    loaded = _load(project, renderer, max_length, sink)
    for finding in loaded.findings:
        sink(Warned(finding))
    kept = [row for _, row in loaded.training]
    held_out = [row for _, row in loaded.validation]
    data = TrainingData(
        rows=TokenRows.from_rendered(kept),
        validation=TokenRows.from_rendered(held_out) if held_out else None,
        replay=_general_rows(renderer, max_length) if spec.data.replay else None,
        # `replay` is their share of all rows, not of the user's.
        n_replayed=round(len(kept) * spec.data.replay / (1 - spec.data.replay)),
    )
    shown = tuple(tuple(row) for row in preview(kept, renderer.tokenizer, rows=_PREVIEWED_ROWS))
    sink(
        DataChecked(
            training_rows=len(kept),
            replayed_rows=data.n_replayed,
            validation_rows=len(held_out),
            tokens=len(data.rows.ids),
            trained_tokens=int((data.rows.weights > 0).sum()),
            preview=shown,
        )
    )
    return Prepared(
        base=base,
        renderer=renderer,
        data=data,
        max_length=max_length,
        findings=loaded.findings,
        preview=shown,
    )


def held_out_examples(project: Project, renderer: Renderer) -> tuple[Example, ...]:
    """Return the validation rows of a project, as `prepare` chooses them."""
    base = find_base(project.spec.base, relative_to=project.folder)
    loaded = _load(project, renderer, longest_row(project.spec, base), no_sink)
    return tuple(example for example, _ in loaded.validation)


@dataclass(frozen=True)
class _Loaded:
    """The user's rows that fit, as read and as tokens."""

    training: list[tuple[Example, Rendered]]
    validation: list[tuple[Example, Rendered]]
    findings: tuple[str, ...]


def _load(project: Project, renderer: Renderer, max_length: int, sink: Sink) -> _Loaded:
    """Read and check all rows; only then hold some of those that fit out."""
    spec = project.spec

    def read(name: str) -> tuple[list[tuple[Example, Rendered]], tuple[str, ...]]:
        examples = load_examples(project.path(name), project.mapping)
        rendered = _render(renderer, examples, sink)
        check = preflight(examples, rendered, renderer, max_length)
        return [(examples[index], rendered[index]) for index in check.kept], check.findings

    rows, findings = read(spec.data.train)
    if spec.data.validation is not None:
        validation, more = read(spec.data.validation)
        return _Loaded(rows, validation, (*findings, *more))
    as_tokens = {id(example): row for example, row in rows}
    training, held_out = split(
        [example for example, _ in rows], _VALIDATION_SHARE, spec.training.seed
    )
    return _Loaded(
        training=[(example, as_tokens[id(example)]) for example in training],
        validation=[(example, as_tokens[id(example)]) for example in held_out],
        findings=findings,
    )


def _render(renderer: Renderer, examples: Sequence[Example], sink: Sink) -> list[Rendered]:
    rendered = []
    for example in examples:
        rendered.append(renderer.render(example))
        if len(rendered) % _PROGRESS_EVERY == 0:
            sink(Progress("reading rows", len(rendered), len(examples)))
    return rendered


def _general_rows(renderer: Renderer, max_length: int) -> TokenRows:
    """Return the bundled general rows that fit, to be replayed against forgetting."""
    rendered = [renderer.render(example) for example in load_examples(_REPLAY_FILE)]
    return TokenRows.from_rendered(row for row in rendered if len(row.ids) <= max_length)


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
