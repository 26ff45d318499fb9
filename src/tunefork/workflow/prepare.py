"""From the files that a spec names to rows that can be trained on, with nothing loaded yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import DataError, SpecError
from tunefork.core.events import DataChecked, Event, Progress, Sink, Warned
from tunefork.core.hashing import hash_json
from tunefork.data import (
    Items,
    Kind,
    LabelledTexts,
    Labelling,
    PromptRows,
    Prompts,
    Rendered,
    Renderer,
    TokenFile,
    TokenRows,
    group_rows,
    load_tokenizer,
    preflight,
    prepare_file,
    preview,
    read_labelled,
    read_prompts,
    select_prompts,
    split,
)
from tunefork.evaluation import load_golden
from tunefork.models import Base, find_base
from tunefork.objectives import LABEL, Objective, is_replayed_apart, replayed
from tunefork.training import TrainingData
from tunefork.workflow.derive import longest_row
from tunefork.workflow.objective_specs import ClassifySpec, FromRewards
from tunefork.workflow.spec import Project, Spec

_REPLAY_FILE = Path(__file__).parents[1] / "evaluation" / "general" / "replay.jsonl"
_VALIDATION_SHARE = 0.1
_PREVIEWED_ROWS = 3
_NAMED_ROWS = 5


@dataclass(frozen=True)
class Prepared:
    """All that training and evaluation need to know of the data."""

    base: Base
    renderer: Renderer
    kind: Kind  # of the rows
    data: TrainingData
    max_length: int
    findings: tuple[str, ...]  # what the user should know of the data, as sentences
    preview: tuple[tuple[tuple[str, bool], ...], ...]  # (text, is trained) per token
    asked: Prompts  # every user turn of the training file, but of the rows that were kept out
    kept_out: Prompts  # golden questions whose rows are neither trained on nor held out
    training_rows: NDArray[np.int64]  # where in its file each item of the training data stands
    held_out_rows: NDArray[np.int64]
    labelling: Labelling | None = None  # of texts with labels
    prompts: PromptRows | None = None  # of prompts to be answered

    def data_hash(self) -> str:
        """Return one hash over every token and weight that the run may see."""
        parts = (self.data.rows, self.data.validation, self.data.replay)
        hashes = [part.hash() if part is not None else None for part in parts]
        mixed = [list(map(list, self.data.sources))] if self.data.sources else []
        return hash_json([*hashes, self.data.n_replayed, *mixed])


def prepare(project: Project, sink: Sink, kept_out: Prompts | None = None) -> Prepared:
    """Read, check, split and render the data of a project.

    Args:
        project: What to prepare.
        sink: Receives what happens.
        kept_out: Questions whose rows are left out: those that a run has recorded, so that it
            goes on with the same rows; the golden questions where it begins.

    Raises:
        DataError: Something in it would spoil the run; all that was found, at once.
        ModelError: There is no such base.
    """
    spec = project.spec
    base = find_base(spec.base, relative_to=project.folder)
    renderer = Renderer(load_tokenizer(base.folder), spec.date)
    max_length = longest_row(spec, base)
    room = _room(spec, max_length)
    questions = golden_questions(project) if kept_out is None else kept_out
    objective = spec.objective.build()
    sources = spec.data.sources
    # Given validation rows belong to all sources, and are read with the first.
    parts = [_load(name, project, renderer, room, objective, questions, sink) for name in sources]
    loaded = parts[0] if len(parts) == 1 else _joined(parts)
    for finding in loaded.findings:
        sink(Warned(finding))
    data = TrainingData(
        rows=loaded.training,
        validation=loaded.validation if len(loaded.validation) else None,
        replay=_general_rows(renderer, max_length, objective) if spec.data.replay else None,
        # `replay` is their share of all rows, not of the user's.
        n_replayed=round(len(loaded.training) * spec.data.replay / (1 - spec.data.replay)),
        name_row=loaded.name_row,
        name_held_out=loaded.name_held_out,
        sources=()
        if len(parts) == 1
        else tuple(
            (len(part.training), weight)
            for part, weight in zip(parts, sources.values(), strict=True)
        ),
    )
    shown = _preview(loaded.training.rows, renderer)
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
        kind=objective.kind,
        data=data,
        max_length=max_length,
        findings=loaded.findings,
        preview=shown,
        asked=loaded.asked,
        kept_out=loaded.kept_out,
        training_rows=loaded.training_rows,
        held_out_rows=loaded.held_out_rows,
        labelling=loaded.labelling,
        prompts=loaded.prompts,
    )


def _room(spec: Spec, max_length: int) -> int:
    """Return how long a row may be: of prompts what answers leave.

    Raises:
        SpecError: Nothing.
    """
    if not isinstance(spec.objective, FromRewards):
        return max_length
    room = max_length - spec.objective.max_tokens
    if room < 1:
        raise SpecError(
            f"answers of {spec.objective.max_tokens} tokens leave no room for prompts in rows of "
            f"{max_length}",
            where="objective.max_tokens",
            hint="choose less, or a larger `training.max_length`",
        )
    return room


def prepare_again(project: Project, sink: Sink, kept_out: Prompts | None) -> Prepared:
    """Return what a finished run was trained on, without saying all of it once more."""

    def only_progress(event: Event) -> None:
        if isinstance(event, Progress):
            sink(event)

    return prepare(project, only_progress, kept_out)


def golden_questions(project: Project) -> Prompts:
    """Return the questions that decide on the project's result, and must not be trained on."""
    name = project.spec.golden
    golden = load_golden(project.path(name)) if name is not None else []
    return Prompts.of(question.text for question in golden)


@dataclass(frozen=True)
class _Loaded:
    """The user's rows that fit, as tokens."""

    training: Items
    validation: Items
    n_trained_tokens: int  # of `training`
    findings: tuple[str, ...]
    asked: Prompts
    kept_out: Prompts
    name_row: Callable[[int], str]  # of `training`
    name_held_out: Callable[[int], str]  # of `validation`
    training_rows: NDArray[np.int64]
    held_out_rows: NDArray[np.int64]
    labelling: Labelling | None
    prompts: PromptRows | None


def _load(
    train: str,
    project: Project,
    renderer: Renderer,
    max_length: int,
    objective: Objective,
    questions: Prompts,
    sink: Sink,
) -> _Loaded:
    """Read and check all rows, leave out those of the questions, and hold some of the rest out.

    Validation rows that are given are read with the first file.
    """
    spec, kind = project.spec, objective.kind
    is_first = train == next(iter(spec.data.sources))

    def read(name: str, seed: int | None) -> TokenFile:
        path = project.path(name)
        return prepare_file(
            path, renderer, kind=kind, mapping=project.mapping, seed=seed, sink=sink
        )

    given = spec.data.validation
    file = read(train, spec.training.seed if given is None else None)
    check = preflight(file.facts, str(file.path), renderer, max_length, kind)
    kept, findings = _without(file, check.kept, questions)
    findings = (*check.findings, *findings)
    texts = _labelled(project, file)
    names = texts.names(kept) if texts else ()
    if given is None:
        keys, note = group_rows(file.facts["prompt"][kept], file.sketches, kept)
        labels = texts.strata(kept) if texts else None
        chosen, left = split(keys, _VALIDATION_SHARE, labels=labels)
        training, other, held_out = kept[chosen], file, kept[left]
        findings = (*findings, *([note] if note else []))
    elif not is_first:
        training, other, held_out = kept, file, kept[:0]
    else:
        other = read(given, None)
        more = preflight(other.facts, str(other.path), renderer, max_length, kind)
        held_out, found = _without(other, more.kept, questions)
        training, findings = kept, (*findings, *more.findings, *found)
    is_left = file.asking(questions)
    items, training = _chosen(file, training, kind, max_length)
    held_items, held_out = _chosen(other, held_out, kind, max_length)
    labelling = None
    if texts is not None:
        others = texts if other is file else _labelled(project, other)
        assert others is not None, "both files hold labels"
        items = items.with_column(LABEL, texts.column(names, training))
        held_items = held_items.with_column(LABEL, others.column(names, held_out))
        labelling = Labelling(
            names, texts.texts(training), others.texts(held_out), texts.is_several
        )
    return _Loaded(
        training=objective.arrange(items),
        validation=objective.arrange(held_items),
        n_trained_tokens=int(file.facts["n_trained"][np.unique(training)].sum(dtype=np.int64)),
        findings=findings,
        asked=Prompts(file.asked[np.repeat(~is_left, file.facts["n_asked"])]),
        kept_out=questions & Prompts(np.concatenate([file.asked, other.asked])),
        name_row=_namer(file, training),
        name_held_out=_namer(other, held_out),
        training_rows=training,
        held_out_rows=held_out,
        labelling=labelling,
        prompts=_prompts(project, (file, training), (other, held_out))
        if kind == "prompts"
        else None,
    )


def _prompts(
    project: Project,
    training: tuple[TokenFile, NDArray[np.int64]],
    held_out: tuple[TokenFile, NDArray[np.int64]],
) -> PromptRows:
    """Return some rows of one file, and some of the same or another, with all that they hold."""
    rows = {file.path: read_prompts(file.path, project.mapping) for file, _ in (training, held_out)}
    return PromptRows(
        *(select_prompts(rows[file.path], chosen) for file, chosen in (training, held_out))
    )


def _joined(parts: Sequence[_Loaded]) -> _Loaded:
    """Return the rows of several files, one after the other."""

    def place(names: Sequence[Callable[[int], str]], sizes: Sequence[int]) -> Callable[[int], str]:
        ends = np.cumsum(sizes)

        def name(row: int) -> str:
            at = int(np.searchsorted(ends, row, side="right"))
            return names[at](row - int(ends[at] - sizes[at]))

        return name

    training, validation = [part.training for part in parts], [part.validation for part in parts]
    return _Loaded(
        training=Items.concatenate(training),
        validation=Items.concatenate(validation),
        n_trained_tokens=sum(part.n_trained_tokens for part in parts),
        findings=tuple(finding for part in parts for finding in part.findings),
        asked=Prompts(np.concatenate([part.asked.hashes for part in parts])),
        kept_out=Prompts(np.concatenate([part.kept_out.hashes for part in parts])),
        name_row=place([part.name_row for part in parts], list(map(len, training))),
        name_held_out=place([part.name_held_out for part in parts], list(map(len, validation))),
        training_rows=np.concatenate([part.training_rows for part in parts]),
        held_out_rows=np.concatenate([part.held_out_rows for part in parts]),
        labelling=None,
        prompts=PromptRows.joined([part.prompts for part in parts]),
    )


def _labelled(project: Project, file: TokenFile) -> LabelledTexts | None:
    """Return the labels of a file's rows, where they are what is learned."""
    asked = project.spec.objective
    if not isinstance(asked, ClassifySpec):
        return None
    return read_labelled(
        file.path,
        project.mapping,
        is_several=asked.labels == "several",
        separator=asked.separator,
    )


def _chosen(
    file: TokenFile, rows: NDArray[np.int64], kind: Kind, max_length: int
) -> tuple[Items, NDArray[np.int64]]:
    """Return some rows as items, and the row of each item: a long text comes in pieces."""
    items = file.items.select(rows)
    if kind != "text":
        return items, rows
    pieces, row_of = items.rows.cut(max_length)
    return Items(pieces), rows[row_of]


def _without(
    file: TokenFile, rows: NDArray[np.int64], questions: Prompts
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the rows that ask none of the questions, and what to say of the others."""
    is_left = file.asking(questions)[rows]
    left = rows[is_left]
    if not len(left):
        return rows, ()
    name = _namer(file, left)
    places = [name(at) for at in range(min(len(left), _NAMED_ROWS))]
    more = ", …" if len(left) > len(places) else ""
    if len(left) == len(rows):
        raise DataError(
            "every row asks a golden question, so none is left",
            where=file.path,
            hint="give other questions in the golden file, or other rows",
        )
    count = "1 row that asks" if len(left) == 1 else f"{len(left):,} rows that ask"
    return rows[~is_left], (f"{count} a golden question, left out: {', '.join(places)}{more}",)


def _namer(file: TokenFile, rows: NDArray[np.int64]) -> Callable[[int], str]:
    """Return what tells where in its file one of the chosen rows stands."""
    lines = file.facts["line"][rows]
    return lambda row: f"{file.path.name}:{lines[row]}"


def _general_rows(renderer: Renderer, max_length: int, objective: Objective) -> Items:
    """Return the bundled general rows that fit, to be replayed against forgetting."""
    rows = prepare_file(_REPLAY_FILE, renderer).rows
    items = Items(rows.select(np.flatnonzero(rows.lengths <= max_length)))
    return replayed(items) if is_replayed_apart(objective) else items


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
