"""Decisions of one rater on disk: a line for each, written at once, never changed.

Whoever decides on a pair again adds a line, and the last one counts. A line that a kill left
unfinished is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from tunefork.core.errors import DataError, UsageError
from tunefork.core.files import writing
from tunefork.data import Message, Record
from tunefork.data._messages import read_messages
from tunefork.evaluation.lines import read_items
from tunefork.workflow.label_items import Candidate, pair_key

# `same` is no choice of the rater's: both answers were alike, so there was nothing to show.
Choice = Literal["left", "right", "tie", "bad", "skip", "same"]


@dataclass(frozen=True)
class Terms:
    """What a session is about; decisions made under other terms do not belong to it.

    Attributes:
        rater: Who decides.
        seed: Decides which answer stands on which side, and what models sample.
        models: Who answers; None where the answers exist already.
        temperature: At which they sample; None as each of them is set.
    """

    rater: str
    seed: int = 0
    models: tuple[str, str] | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Proposal:
    """A prompt and two answers as they are shown; `key` is that of the item."""

    key: str
    prompt: tuple[Message, ...]
    left: Candidate
    right: Candidate

    @property
    def pair(self) -> str:
        """The key of prompt and answers, the same for every rater who saw both."""
        return pair_key(self.prompt, [self.left.text, self.right.text])


@dataclass(frozen=True)
class Decision:
    """What a rater chose, and how the better answer reads where it was edited."""

    terms: Terms
    proposal: Proposal
    choice: Choice
    edited: str | None = None


def make_terms(rater: str, seed: int, models: Sequence[str], temperature: float | None) -> Terms:
    """Return the terms of a session; no model where the answers exist already.

    Raises:
        UsageError: More than two models, or one that would give the same answer twice.
    """
    if not rater.strip():
        raise UsageError("the rater's name is empty", hint="name one with `--rater NAME`")
    if not models:
        return Terms(rater, seed)
    if len(models) > 2:
        hint = "name two with `--model A --model B`"
        raise UsageError(f"two models are compared, and here are {len(models)}", hint=hint)
    first, second = models[0], models[-1]
    if first == second and not temperature:
        raise UsageError(
            f"`{first}` would give the same answer twice",
            hint="let it sample with `--temperature 0.8`, or name two models",
        )
    return Terms(rater, seed, (first, second), temperature)


def log_of(out: Path) -> Path:
    """Return where the decisions behind a data set lie: beside it."""
    return out.with_name(out.stem + ".decisions.jsonl")


def append_decision(path: Path, decision: Decision) -> None:
    """Write a decision down before anything else happens.

    Raises:
        RunError: It cannot be written.
    """
    proposal = decision.proposal
    row = {
        **asdict(decision.terms),
        "key": proposal.key,
        "prompt": [turn.as_template() for turn in proposal.prompt],
        "left": asdict(proposal.left),
        "right": asdict(proposal.right),
        "choice": decision.choice,
        "edited": decision.edited,
    }
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())


def read_decisions(path: Path) -> list[Decision]:
    """Return all decisions in the order in which they were made, also those made anew.

    Raises:
        DataError: The file cannot be read, or lines of it are no decisions.
    """
    return read_items(path, _decision)


def load_decisions(out: Path, terms: Terms) -> dict[str, Decision]:
    """Return the decisions made so far by the key of their item, the last one of each.

    Raises:
        UsageError: `out` was made otherwise, or under other terms.
        InputError: The file of decisions cannot be read.
    """
    log = log_of(out)
    if log.exists():
        _drop_unfinished(log)
    if not log.exists():
        if out.exists():
            raise UsageError(
                f"`{out}` is there already, and was not made by `tunefork label`",
                hint="name another file with `--out FILE`",
            )
        return {}
    decisions = read_decisions(log)
    for decision in decisions:
        if decision.terms != terms:
            raise UsageError(
                f"`{out}` belongs to another session: {_difference(decision.terms, terms)}",
                hint="name another file with `--out FILE`, or go on as it was begun",
            )
    return {decision.proposal.key: decision for decision in decisions}


def _drop_unfinished(path: Path) -> None:
    """Cut the line off that a kill left without its end."""
    with writing(path):
        with path.open("r+b") as file:
            size_bytes = file.read().rfind(b"\n") + 1
            file.truncate(size_bytes)
        if size_bytes == 0:
            path.unlink()


def _difference(then: Terms, now: Terms) -> str:
    """Say in what two terms differ."""
    before, after = asdict(then), asdict(now)
    return ", ".join(
        f"{key} {_shown(before[key])}, and here {_shown(after[key])}"
        for key in before
        if before[key] != after[key]
    )


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " and ".join(f"`{each}`" for each in value)
    return "none" if value is None else f"`{value}`"


def _decision(record: Record) -> Decision:
    try:
        return _parse(record)
    except DataError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DataError(
            "the line is no decision that `tunefork label` wrote",
            where=record.where,
            hint="name the file that `--out` named, or its `.decisions.jsonl`",
        ) from error


def _parse(record: Record) -> Decision:
    fields = record.fields
    models = fields["models"]
    terms = Terms(
        _typed(fields["rater"], str),
        _typed(fields["seed"], int),
        None if models is None else (_typed(models[0], str), _typed(models[1], str)),
        _typed(fields["temperature"], float | None),
    )
    left, right = (_candidate(fields[side]) for side in ("left", "right"))
    prompt = read_messages(fields["prompt"], record.where)
    proposal = Proposal(_typed(fields["key"], str), prompt, left, right)
    choice = fields["choice"]
    if choice not in get_args(Choice):
        raise ValueError(f"unknown choice {choice!r}")
    return Decision(terms, proposal, cast(Choice, choice), _typed(fields["edited"], str | None))


def _candidate(value: dict[str, Any]) -> Candidate:
    return Candidate(_typed(value["model"], str | None), _typed(value["text"], str))


def _typed(value: Any, kind: Any) -> Any:  # one JSON value, and a type or a union of types
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind}")
    return value
