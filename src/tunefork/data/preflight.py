"""The last look before training: stop what cannot work, count what will, show what is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import DataError, Where
from tunefork.data.example import Kind
from tunefork.data.facts import EMPTY_ANSWER, MOVED_SEAM, SAME_ANSWERS, TRAINS_END, Facts
from tunefork.data.render import Rendered, Renderer
from tunefork.data.tokenizer import Tokenizer

_MAX_PLACES = 5
_SEAM_SAMPLE = 100  # kept rows whose prompts are compared


@dataclass(frozen=True)
class Preflight:
    """What will be trained on.

    `kept` (n,) are the numbers of the rows that fit the limit and train something; `findings`
    are sentences for the user.
    """

    kept: NDArray[np.int64]
    findings: tuple[str, ...] = ()


def preflight(
    facts: Facts, file: str, renderer: Renderer, max_length: int, kind: Kind = "chat"
) -> Preflight:
    """Check the rows of a file by their facts; `max_length` counts tokens.

    An empty answer stops a conversation; among answers to compare or judge it is left out, since
    real ones hold some. Plain texts have no turns to end, and long ones are cut later.

    Raises:
        DataError: where an answer is empty, nothing is trained, the end of turn is never
            trained, or every row is longer than the limit; all of these at once.
    """
    rows = _Rows(facts, file)
    has_answers = kind not in ("text", "prompts")
    problems = [
        *(_empty_answers(rows) if kind == "chat" else ()),
        *(_nothing_trained(rows) if kind != "prompts" else ()),
        *(_end_untrained(rows, renderer) if has_answers else ()),
        *(_all_too_long(rows, max_length) if kind != "text" else ()),
    ]
    if problems:
        first, *rest = problems
        raise DataError(
            first.message,
            where=first.where,
            hint=first.hint,
            details=(*first.details, *(f"also: {problem.message}" for problem in rest)),
        )
    is_too_long = (facts["length"] > max_length) & (kind != "text")
    is_untrained = (facts["n_trained"] == 0) & (kind != "prompts")
    is_empty, is_same = rows.has(EMPTY_ANSWER), rows.has(SAME_ANSWERS)
    kept = np.flatnonzero(~(is_too_long | is_untrained | is_empty | is_same))
    left_out = {
        f"longer than {max_length} tokens": is_too_long,
        "without anything to train on": is_untrained,
        "with an empty answer": is_empty,
        "whose two answers are the same": is_same,
    }
    if not len(kept):
        raise _nothing_left(rows, left_out)
    moved = kept[:_SEAM_SAMPLE][rows.has(MOVED_SEAM)[kept[:_SEAM_SAMPLE]]]
    findings = [
        *(
            sentence
            for what, is_so in left_out.items()
            for sentence in rows.report(f"{what}, left out", np.flatnonzero(is_so))
        ),
        *(_ends_of_turns(rows, kept) if has_answers else ()),
        *rows.report(
            "whose prompt has other tokens in use than in training (of those sampled)", moved
        ),
    ]
    return Preflight(kept, tuple(findings))


def preview(
    rendered: Sequence[Rendered], tokenizer: Tokenizer, rows: int = 3
) -> list[list[tuple[str, bool]]]:
    """Return the first rows token by token, as (text, is trained).

    Tokens that together make one character are one piece, so that every piece can be shown.
    """
    return [_pieces(row, tokenizer) for row in rendered[:rows]]


def _pieces(row: Rendered, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    # Decoded behind its predecessor, a token keeps the space that a decoder strips in front.
    context, begin = 0, 0
    for end in range(1, len(row.ids) + 1):
        before = tokenizer.decode(row.ids[context:begin], skip_special=False)
        text = tokenizer.decode(row.ids[context:end], skip_special=False)
        is_whole = not text.endswith("\ufffd") or end == len(row.ids)
        if is_whole:
            pieces.append((text[len(before) :], row.weights[end - 1] > 0))
            context, begin = begin, end
    return pieces


class _Rows:
    """The rows of one file, as far as they can be named."""

    def __init__(self, facts: Facts, file: str) -> None:
        self.facts = facts
        self._file = file

    def has(self, flag: int) -> NDArray[np.bool_]:
        """Return which rows have a flag, (n_rows,)."""
        return np.asarray(self.facts["flags"] & flag) > 0

    def problem(self, message: str, rows: NDArray[np.int64], hint: str) -> DataError:
        """Return an error at the first of some rows, with the places of the next few."""
        details = [f"also at {self._where(at)}" for at in rows[1 : _MAX_PLACES + 1]]
        if len(rows) > _MAX_PLACES + 1:
            details.append(f"... and {len(rows) - _MAX_PLACES - 1} more")
        return DataError(message, where=self._where(rows[0]), hint=hint, details=tuple(details))

    def report(self, what: str, rows: NDArray[np.int64]) -> list[str]:
        """Return a sentence on some rows, or none where there are no rows."""
        if not len(rows):
            return []
        places = ", ".join(str(self._where(at)) for at in rows[:_MAX_PLACES])
        more = f" and {len(rows) - _MAX_PLACES} more" if len(rows) > _MAX_PLACES else ""
        return [f"{_count(len(rows))} {what}: {places}{more}"]

    def _where(self, row: np.int64) -> Where | None:
        if not len(self.facts):
            return None
        return Where(self._file, int(self.facts["line"][row]) or None)


def _empty_answers(rows: _Rows) -> list[DataError]:
    empty = np.flatnonzero(rows.has(EMPTY_ANSWER))
    if not len(empty):
        return []
    hint = "fill these answers in, or remove the rows"
    return [rows.problem(f"{_count(len(empty))} with an empty answer", empty, hint)]


def _nothing_left(rows: _Rows, left_out: Mapping[str, NDArray[np.bool_]]) -> DataError:
    found = ", ".join(
        f"{_count(int(n))} {what}" for what, is_so in left_out.items() if (n := is_so.sum())
    )
    return rows.problem(
        f"no row is left to train on: {found}",
        np.zeros(1, np.int64),
        "write answers that are there and differ; shorten rows that are too long, or raise "
        "`training.max_length`",
    )


def _nothing_trained(rows: _Rows) -> list[DataError]:
    if (rows.facts["n_trained"] > 0).any():
        return []
    hint = "give at least one assistant turn a text and no `weight: 0`"
    message = "nothing to train on: no row has a trained token"
    return [rows.problem(message, np.zeros(1, np.int64), hint)]


def _end_untrained(rows: _Rows, renderer: Renderer) -> list[DataError]:
    if not (rows.facts["n_trained"] > 0).any() or rows.has(TRAINS_END).any():
        return []
    names = sorted(renderer.tokenizer.token_text(key) for key in renderer.end_ids)
    known = f" ({', '.join(f'`{name}`' for name in names)})" if names else ""
    return [
        rows.problem(
            f"the end of the turn{known} is never trained, so the model would not stop",
            np.zeros(1, np.int64),
            "have the chat template write the end token after each assistant turn, or name the "
            "token that it does write as `eos_token` in the model folder",
        )
    ]


def _ends_of_turns(rows: _Rows, kept: NDArray[np.int64]) -> list[str]:
    without = kept[~rows.has(TRAINS_END)[kept]]
    return rows.report("that do not train the end of the turn", without)


def _all_too_long(rows: _Rows, max_length: int) -> list[DataError]:
    lengths = rows.facts["length"]
    if not len(lengths) or lengths.min() <= max_length:
        return []
    at = np.flatnonzero(lengths == lengths.min())[:1]
    shortest = int(lengths[at[0]])
    message = f"every row is longer than {max_length} tokens; the shortest has {shortest}"
    hint = f"set `training.max_length` to {shortest} or more, or shorten the rows"
    return [rows.problem(message, at, hint)]


def _count(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
