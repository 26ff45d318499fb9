"""How much there is, and of what."""

from __future__ import annotations

from collections.abc import Iterator

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip, rows_text

_FEW, _ENOUGH = 50, 200
_TIMES_RARER = 10  # than the commonest label
_LEAST_PER_LABEL = 5
_FAR_LONGER = 20  # times the median answer
_LEAST_LONG = 2000  # letters
_ENOUGH_FOR_LENGTHS = 20
_SHARE_OF_ONE_ANSWER = 0.2


def too_few(context: Context) -> Iterator[Finding]:
    """Report a file with too few rows to learn from."""
    n_rows = len(context.rows)
    if n_rows >= _ENOUGH:
        return
    yield Finding(
        "too_few",
        "warning" if n_rows < _FEW else "note",
        n_rows,
        (),
        f"only {rows_text(n_rows)}",
        "a few hundred different examples are needed before tuning pays; "
        "with fewer, try the examples in the prompt instead",
    )


def imbalance(context: Context) -> Iterator[Finding]:
    """Report rare labels, one answer given far too often, and answers far longer than the rest."""
    yield from _labels(context)
    if not context.labels:
        yield from _one_answer(context)
    yield from _lengths(context)


def _labels(context: Context) -> Iterator[Finding]:
    if not context.labels:
        return
    (common, most), *_ = context.labels.most_common(1)
    rare = {
        label: n
        for label, n in context.labels.items()
        if n * _TIMES_RARER <= most or (n < _LEAST_PER_LABEL and n < most)
    }
    if not rare:
        return
    names = ", ".join(f"`{name}` {n}" for name, n in sorted(rare.items(), key=lambda i: i[1])[:5])
    rows = [row for row in context.rows if row.answer.strip() in rare]
    yield Finding(
        "imbalance",
        "warning",
        len(rare),
        tuple(row.number for row in rows),
        f"{len(rare)} of {len(context.labels)} labels are rare ({names}); "
        f"the commonest, `{common}`, has {most:,} rows",
        "collect more rows of the rare labels",
        clip(rows[0].prompt),
        rows[0].number,
    )


def _one_answer(context: Context) -> Iterator[Finding]:
    n_rows = len(context.rows)
    if n_rows < _ENOUGH_FOR_LENGTHS:
        return
    rows: dict[str, list[int]] = {}
    for row in context.rows:
        if row.answer.strip():
            rows.setdefault(row.answer.strip(), []).append(row.number)
    answer, numbers = max(rows.items(), key=lambda item: len(item[1]), default=("", []))
    if len(numbers) >= _SHARE_OF_ONE_ANSWER * n_rows:
        yield Finding(
            "imbalance",
            "warning",
            len(numbers),
            tuple(numbers),
            f"one answer is given in {len(numbers) / n_rows:.0%} of the rows",
            "vary it, or drop some of these rows; else the model gives it to everything",
            clip(answer),
            numbers[0],
        )


def _lengths(context: Context) -> Iterator[Finding]:
    lengths = sorted(len(row.answer) for row in context.rows)
    if len(lengths) < _ENOUGH_FOR_LENGTHS:
        return
    limit = max(_LEAST_LONG, _FAR_LONGER * lengths[len(lengths) // 2])
    rows = [row for row in context.rows if len(row.answer) > limit]
    if not rows:
        return
    share = sum(len(row.answer) for row in rows) / max(1, sum(lengths))
    yield Finding(
        "imbalance",
        "note",
        len(rows),
        tuple(row.number for row in rows),
        f"{rows_text(len(rows))} with an answer of more than {limit:,} letters, far longer than "
        f"most; they hold {share:.0%} of all that is learned",
        "shorten or split them, if they are not what matters most",
        clip(rows[0].answer),
        rows[0].number,
    )
