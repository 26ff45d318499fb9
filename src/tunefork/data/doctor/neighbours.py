"""What nearest neighbours show: labels that look wrong, and questions the data does not cover."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunefork.data.doctor.context import Context
from tunefork.data.doctor.finding import Finding, clip
from tunefork.data.doctor.rows import plain
from tunefork.data.doctor.vectors import evenly, nearest, vectors

_NEIGHBOURS = 5
_LEAST_COSINE = 0.25  # of the nearest that votes
_MOST_ROWS = 12_000  # compared with each other
_MOST_ASKED, _MOST_KNOWN = 4_000, 20_000
_COVERED_COSINE = 0.3


def label_suspect(context: Context) -> Iterator[Finding]:
    """Report rows whose nearest neighbours all have one other label.

    A row is suspect where its five nearest rows, duplicates aside, agree on another label. Of many
    rows an even sample is compared.
    """
    if not context.labels:
        return
    distinct = {row.prompt_key: row for row in reversed(context.rows)}
    rows = sorted(distinct.values(), key=lambda row: row.number)
    rows = [rows[at] for at in evenly(len(rows), _MOST_ROWS)]
    if len(rows) <= _NEIGHBOURS:
        return
    found = vectors([row.prompt for row in rows])
    places, cosines = nearest(found, found, _NEIGHBOURS, skip_self=True)
    names = sorted({row.answer.strip() for row in rows})
    number = {name: at for at, name in enumerate(names)}
    label = np.array([number[row.answer.strip()] for row in rows])
    votes = label[places]  # (n, k)
    agree = (votes == votes[:, :1]).all(axis=1) & (votes[:, 0] != label)
    agree &= cosines[:, -1] >= _LEAST_COSINE
    suspects = np.flatnonzero(agree)
    if not len(suspects):
        return
    best = suspects[np.argmax(cosines[suspects].mean(axis=1))]
    other = names[votes[best, 0]]
    yield Finding(
        "label.suspect",
        "warning",
        len(suspects),
        tuple(rows[at].number for at in suspects),
        f"{len(suspects):,} rows have another label than all of their {_NEIGHBOURS} nearest rows",
        "look at them; a wrong label costs more than a missing row",
        f"{clip(rows[best].prompt, 90)} → `{rows[best].answer.strip()}`; "
        f"rows like it say `{other}`",
        rows[best].number,
    )


def unrepresentative(context: Context) -> Iterator[Finding]:
    """Report what users really ask and no row resembles."""
    asked = list({plain(text): text for text in context.against if plain(text)}.values())
    rows = context.rows
    if not asked or not rows:
        return
    asked = [asked[at] for at in evenly(len(asked), _MOST_ASKED)]
    known = [rows[at].prompt for at in evenly(len(rows), _MOST_KNOWN)]
    found = vectors([*known, *asked])
    _, cosines = nearest(found[len(known) :], found[: len(known)], 1)
    missing = np.flatnonzero(cosines[:, 0] < _COVERED_COSINE)
    if not len(missing):
        return
    # The most telling one is near to others that are missing as well.
    lacking = found[len(known) + missing]
    typical = missing[np.argmax(lacking @ lacking.sum(axis=0))]
    yield Finding(
        "unrepresentative",
        "warning" if len(missing) >= 0.1 * len(asked) else "note",
        len(missing),
        (),
        f"{len(missing):,} of {len(asked):,} real inputs ({len(missing) / len(asked):.0%}) "
        "resemble no row",
        "add rows like them, or the model has to guess",
        "; ".join(
            clip(asked[at], 70) for at in dict.fromkeys([int(typical), *missing[:2].tolist()])
        ),
    )
