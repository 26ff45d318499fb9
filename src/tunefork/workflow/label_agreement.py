"""`label --agreement`: whether raters chose alike, and where they did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunefork.core.errors import InputError, UsageError
from tunefork.core.hashing import hash_json
from tunefork.evaluation.agreement import measure_agreement
from tunefork.workflow.label_log import Decision, log_of, read_decisions

_NOT_RATED = ("skip", "same")
_Rated = dict[str, Decision]  # what one rater said of each pair


def agreement(paths: Sequence[Path]) -> dict[str, Any]:
    """Compare what raters chose on the pairs that at least two of them saw.

    A choice is of an answer, whatever side it stood on; skipped pairs count as not rated. Where an
    answer was edited, the choice between the two as they were shown counts.

    Args:
        paths: The data set that each made, or its file of decisions.

    Returns:
        What `label --agreement --json` prints.

    Raises:
        InputError: A file cannot be used, or no two raters decided on the same pair.
    """
    if len(paths) < 2:
        hint = "name the files of both: `tunefork label --agreement A.jsonl B.jsonl`"
        raise UsageError("agreement takes two raters at least", hint=hint)
    raters = [_rated(path) for path in paths]
    keys = list(dict.fromkeys(key for rated in raters for key in rated))
    units = [[_label(rated.get(key)) for rated in raters] for key in keys]
    found = measure_agreement(units)
    if found is None:
        raise InputError(
            "no two raters decided on the same pair",
            where=paths[0],
            hint="let both label the same answers: `tunefork label --answers FILE`",
        )
    names = _names(paths, raters)
    return {
        "raters": names,
        "pairs": found.units,
        "agreement": asdict(found.share),
        "kappa": asdict(found.kappa) if found.kappa else None,
        "alpha": asdict(found.alpha) if found.alpha else None,
        "disagreements": [
            _disagreement(names, [rated.get(key) for rated in raters])
            for key, unit in zip(keys, units, strict=True)
            if len({label for label in unit if label is not None}) > 1
        ],
    }


def _rated(path: Path) -> _Rated:
    log = log_of(path)
    decisions = read_decisions(log if log.exists() else path)
    last = {decision.proposal.pair: decision for decision in decisions}
    return {key: each for key, each in last.items() if each.choice not in _NOT_RATED}


def _names(paths: Sequence[Path], raters: Sequence[_Rated]) -> list[str]:
    """Return the raters' names, or those of the files where these are not one each."""
    names = [next(iter(rated.values())).terms.rater for rated in raters if rated]
    return names if len(set(names)) == len(paths) else [str(path) for path in paths]


def _label(decision: Decision | None) -> str | None:
    """Return the choice as a name that does not depend on sides.

    Which of two answers is called the first is a coin's fall, so chance is how far raters would
    agree who choose without reading. Named by model or in the order of the alphabet, raters who
    rightly prefer the same kind of answer each time would seem to agree by chance.
    """
    if decision is None:
        return None
    text = _chosen(decision)
    if text is None:
        return decision.choice
    texts = [decision.proposal.left.text, decision.proposal.right.text]
    first = min(texts, key=lambda each: hash_json([decision.proposal.pair, each]))
    return "first" if text == first else "second"


def _chosen(decision: Decision) -> str | None:
    sides = {"left": decision.proposal.left.text, "right": decision.proposal.right.text}
    return sides.get(decision.choice)


def _disagreement(names: list[str], decisions: list[Decision | None]) -> dict[str, Any]:
    given = {name: decision for name, decision in zip(names, decisions, strict=True) if decision}
    prompt = next(iter(given.values())).proposal.prompt
    return {
        "prompt": prompt[-1].content,
        "choices": {
            name: {
                "choice": "better" if _chosen(each) is not None else each.choice,
                "answer": _chosen(each),
            }
            for name, each in given.items()
        },
    }
