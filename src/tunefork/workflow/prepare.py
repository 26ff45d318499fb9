"""From the files that a spec names to rows that can be trained on, with nothing loaded yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunefork.core.events import DataChecked, Progress, Sink, Warned
from tunefork.core.hashing import hash_json
from tunefork.data import (
    Prompts,
    Rendered,
    Renderer,
    TokenFile,
    TokenRows,
    load_tokenizer,
    preflight,
    prepare_file,
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


@dataclass(frozen=True)
class Prepared:
    """All that training and evaluation need to know of the data."""

    base: Base
    renderer: Renderer
    data: TrainingData
    max_length: int
    findings: tuple[str, ...]  # what the user should know of the data, as sentences
    preview: tuple[tuple[tuple[str, bool], ...], ...]  # (text, is trained) per token
    asked: Prompts  # every user turn of the training file, trained on or not

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
    data = TrainingData(
        rows=loaded.training,
        validation=loaded.validation if len(loaded.validation) else None,
        replay=_general_rows(renderer, max_length) if spec.data.replay else None,
        # `replay` is their share of all rows, not of the user's.
        n_replayed=round(len(loaded.training) * spec.data.replay / (1 - spec.data.replay)),
        name_row=loaded.name_row,
        name_held_out=loaded.name_held_out,
    )
    shown = _preview(loaded.training, renderer)
    sink(
        DataChecked(
            training_rows=len(loaded.training),
            replayed_rows=data.n_replayed,
            validation_rows=len(loaded.validation),
            tokens=loaded.training.n_tokens,
            trained_tokens=loaded.n_trained_tokens,
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
        asked=loaded.asked,
    )


def prepare_again(project: Project, sink: Sink) -> Prepared:
    """Return what a finished run was trained on, without saying all of it once more."""
    return prepare(project, lambda event: sink(event) if isinstance(event, Progress) else None)


@dataclass(frozen=True)
class _Loaded:
    """The user's rows that fit, as tokens."""

    training: TokenRows
    validation: TokenRows
    n_trained_tokens: int  # of `training`
    findings: tuple[str, ...]
    asked: Prompts
    name_row: Callable[[int], str]  # of `training`
    name_held_out: Callable[[int], str]  # of `validation`


def _load(project: Project, renderer: Renderer, max_length: int, sink: Sink) -> _Loaded:
    """Read and check all rows; only then hold some of those that fit out."""
    spec = project.spec

    def read(name: str, seed: int | None) -> TokenFile:
        path = project.path(name)
        return prepare_file(path, renderer, mapping=project.mapping, seed=seed, sink=sink)

    given = spec.data.validation
    file = read(spec.data.train, spec.training.seed if given is None else None)
    check = preflight(file.facts, str(file.path), renderer, max_length)
    if given is None:
        chosen, left = split(file.facts["prompt"][check.kept], _VALIDATION_SHARE)
        training, other, held_out = check.kept[chosen], file, check.kept[left]
        findings = check.findings
    else:
        other = read(given, None)
        more = preflight(other.facts, str(other.path), renderer, max_length)
        training, held_out = check.kept, more.kept
        findings = (*check.findings, *more.findings)
    return _Loaded(
        training=file.rows.select(training),
        validation=other.rows.select(held_out),
        n_trained_tokens=int(file.facts["n_trained"][training].sum(dtype=np.int64)),
        findings=findings,
        asked=Prompts(file.asked),
        name_row=_namer(file, training),
        name_held_out=_namer(other, held_out),
    )


def _namer(file: TokenFile, rows: NDArray[np.int64]) -> Callable[[int], str]:
    """Return what tells where in its file one of the chosen rows stands."""
    lines = file.facts["line"][rows]
    return lambda row: f"{file.path.name}:{lines[row]}"


def _general_rows(renderer: Renderer, max_length: int) -> TokenRows:
    """Return the bundled general rows that fit, to be replayed against forgetting."""
    rows = prepare_file(_REPLAY_FILE, renderer).rows
    return rows.select(np.flatnonzero(rows.lengths <= max_length))


def _preview(rows: TokenRows, renderer: Renderer) -> tuple[tuple[tuple[str, bool], ...], ...]:
    first = [rows.row(at) for at in range(min(len(rows), _PREVIEWED_ROWS))]
    rendered = [Rendered(ids.tolist(), weights.tolist()) for ids, weights in first]
    return tuple(tuple(row) for row in preview(rendered, renderer.tokenizer))


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
