"""`label`: a person says which of two answers is better; the result is a preference data set.

No terminal and no page in here: `open_session` → `propose` and `record` until nothing is left →
`export`. `agreement` compares raters. Models are imported where they answer, so that existing
answers are on the screen at once.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tunefork.core.errors import InputError, UsageError, Where
from tunefork.core.events import Sink
from tunefork.core.files import write_text
from tunefork.core.hashing import hash_json
from tunefork.data import Message
from tunefork.data.convert.shapes import Held, openai_preference
from tunefork.data.example import Preference
from tunefork.evaluation.agreement import told_apart
from tunefork.workflow.label_agreement import agreement
from tunefork.workflow.label_items import Item, read_pairs, read_prompts
from tunefork.workflow.label_log import (
    Choice,
    Decision,
    Proposal,
    Terms,
    append_decision,
    load_decisions,
    log_of,
    make_terms,
)

if TYPE_CHECKING:
    from tunefork.workflow.label_answers import AnswersAhead

OWNER = "you"  # who the rater is among the models, where own answers are to be found

__all__ = [
    "OWNER",
    "Choice",
    "Decision",
    "Proposal",
    "Session",
    "Terms",
    "agreement",
    "export",
    "make_terms",
    "open_session",
    "propose",
    "record",
]


@dataclass
class Session:
    """One rater at work on one data set.

    Attributes:
        source: The file of prompts or of pairs.
        out: The data set to be.
        terms: Who rates, and who answers.
        items: What is to be labelled, in the order of the file.
        decisions: The last one on each item by its key, also on items no longer in the file.
    """

    source: Path
    out: Path
    terms: Terms
    items: list[Item]
    decisions: dict[str, Decision]
    _answers: AnswersAhead | None = None
    _next: int = 0

    @property
    def history(self) -> list[Decision]:
        """What the rater decided, in the order in which it was first shown."""
        return [each for each in self.decisions.values() if each.choice != "same"]

    @property
    def n_open(self) -> int:
        """How many items nobody has decided on yet."""
        return sum(item.key not in self.decisions for item in self.items)

    def close(self) -> None:
        """Stop the models."""
        if self._answers is not None:
            self._answers.close()
            self._answers = None


def open_session(source: Path, out: Path, terms: Terms, sink: Sink) -> Session:
    """Begin a session, or go on with the one whose data set `out` is.

    Args:
        source: Prompts, or pairs of answers where the terms name no models.
        out: The data set; the decisions lie beside it.
        terms: Who rates, and who answers.
        sink: Told what is left out.

    Raises:
        InputError: The source, the models or the file of decisions cannot be used, or `out`
            belongs to another session.
    """
    if out.suffix != ".jsonl":
        raise UsageError(f"`{out.name}` is no name for JSON lines", hint="let it end in `.jsonl`")
    decisions = load_decisions(out, terms)
    items = (read_pairs if terms.models is None else read_prompts)(source, sink)
    answers = None
    if terms.models is not None and any(item.key not in decisions for item in items):
        from tunefork.workflow.label_answers import AnswersAhead

        answers = AnswersAhead(terms, [item.prompt for item in items])
    return Session(source, out, terms, items, decisions, answers)


def propose(session: Session) -> Proposal | None:
    """Return the next pair to decide on, waiting for its answers; None where none is left.

    Which answer stands left follows from the seed and the item. Where both are alike, that is
    noted and the next pair taken.
    """
    for at in range(session._next, len(session.items)):
        session._next = at
        item = session.items[at]
        if item.key in session.decisions:
            continue
        proposal = _arranged(session, at)
        if proposal.left.text != proposal.right.text:
            return proposal
        _keep(session, Decision(session.terms, proposal, "same"))
    return None


def record(
    session: Session, proposal: Proposal, choice: Choice, edited: str | None = None
) -> Decision:
    """Write a choice down at once; a later one on the same pair takes its place.

    Args:
        session: The rater's.
        proposal: What was shown: of `propose`, or of an earlier decision.
        choice: `left`, `right`, `tie`, `bad` (both are) or `skip`.
        edited: How the better answer should read.

    Raises:
        InputError: There is no such choice, or the edited text cannot be the better answer.
        RunError: It cannot be written.
    """
    known = [each for each in get_args(Choice) if each != "same"]
    if choice not in known:
        raise InputError(f"there is no choice `{choice}`", hint=f"choose of {', '.join(known)}")
    if edited is not None:
        _check_edit(proposal, choice, edited)
        if edited == (proposal.left if choice == "left" else proposal.right).text:
            edited = None
    decision = Decision(session.terms, proposal, choice, edited)
    _keep(session, decision)
    return decision


def export(session: Session, sink: Sink) -> dict[str, Any]:
    """Write the data set as far as it is decided, and a version of it into the registry.

    Its parent is the version of the decisions, and theirs that of the prompts.

    Returns:
        What `label --json` prints.

    Raises:
        RunError: It cannot be written.
    """
    from tunefork.workflow.register import register_derived

    made = list(session.decisions.values())
    pairs = [row for decision in made if (row := _row(decision)) is not None]
    versions: dict[str, str] = {}
    log = log_of(session.out)
    if made:
        found = register_derived(session.source, log, sink)
        versions = {"source": found["before"], "decisions": found["after"]} if found else {}
    if pairs:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in pairs)
        write_text(session.out, "".join(lines))
        found = register_derived(log, session.out, sink)
        versions |= {"pairs": found["after"]} if found else {}
    counts = Counter(decision.choice for decision in made)
    wins = _wins(made)
    return {
        "rater": session.terms.rater,
        "models": session.terms.models,
        "prompts": len(session.items),
        "open": session.n_open,
        "pairs": len(pairs),
        "counts": {choice: counts[choice] for choice in get_args(Choice)},
        "wins": wins,
        "told_apart": _told_apart(made, wins),
        "edited": sum(decision.edited is not None for decision in made),
        "out": str(session.out) if pairs else None,
        "decisions": str(log) if made else None,
        "versions": versions,
    }


def _arranged(session: Session, at: int) -> Proposal:
    item = session.items[at]
    first, second = item.answers or _answers(session).get(at)
    # A fair coin for each item, the same for who goes on with the session.
    is_turned = int(hash_json([session.terms.seed, item.key])[-1], 16) % 2 == 1
    left, right = (second, first) if is_turned else (first, second)
    return Proposal(item.key, item.prompt, left, right)


def _answers(session: Session) -> AnswersAhead:
    assert session._answers is not None, "the session is closed, or has nothing left to answer"
    return session._answers


def _keep(session: Session, decision: Decision) -> None:
    append_decision(log_of(session.out), decision)
    session.decisions[decision.proposal.key] = decision


def _check_edit(proposal: Proposal, choice: Choice, edited: str) -> None:
    hint = "choose without an edit, or write the better answer"
    if choice not in ("left", "right"):
        raise InputError("only an answer that is chosen can be edited", hint=hint)
    other = proposal.right if choice == "left" else proposal.left
    if not edited.strip():
        raise InputError("the edited answer is empty", hint=hint)
    if edited == other.text:
        raise InputError("the edited answer is the other one", hint=hint)


def _row(decision: Decision) -> dict[str, Any] | None:
    """Return a decision as OpenAI's preference format has it; None where nothing is preferred."""
    if decision.choice not in ("left", "right"):
        return None
    proposal = decision.proposal
    better, worse = proposal.left.text, proposal.right.text
    if decision.choice == "right":
        better, worse = worse, better
    preference = Preference(
        proposal.prompt,
        (Message("assistant", decision.edited or better),),
        (Message("assistant", worse),),
        Where("label"),
    )
    held = openai_preference(preference)
    assert isinstance(held, Held), held
    return held.rows[0]


def _wins(decisions: list[Decision]) -> dict[str, int]:
    """Count how often each model was chosen; nothing where it is one model against itself."""
    wins: Counter[str] = Counter()
    for decision in decisions:
        proposal = decision.proposal
        names = proposal.left.model, proposal.right.model
        if None in names or names[0] == names[1] or decision.choice not in ("left", "right"):
            continue
        wins[str(names[0] if decision.choice == "left" else names[1])] += 1
    return dict(sorted(wins.items()))


def _told_apart(decisions: list[Decision], wins: dict[str, int]) -> dict[str, Any] | None:
    """Say how often the rater found the own answer; None where there was none to find."""
    sides = {each.proposal.left.model for each in decisions}
    sides |= {each.proposal.right.model for each in decisions}
    total = sum(wins.values())
    if OWNER not in sides or total == 0:
        return None
    right = wins.get(OWNER, 0)
    found = told_apart(right, total)
    return {
        "right": right,
        "of": total,
        "share": found.mean,
        "low": found.low,
        "high": found.high,
        "is_recognised": found.low > 0.5,  # more often than by a coin
    }
