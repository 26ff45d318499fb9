"""Whether the base takes the rows: its chat template, and its longest row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tunefork.core.errors import DataError
from tunefork.data._batches import render_batches
from tunefork.data.doctor.context import Context, Tokens
from tunefork.data.doctor.finding import Finding, clip, on_rows
from tunefork.data.doctor.rows import Row
from tunefork.data.example import Example
from tunefork.data.render import Renderer


def count_tokens(
    rows: Iterable[Row],
    renderer: Renderer,
    base: str,
    limit: int,
    tell: Callable[[int], None] = lambda _: None,
) -> Tokens:
    """Render all rows, and return how long each is and which the template refuses.

    `tell` is told how many are done.
    """
    tokens = Tokens(base, limit, {}, {})
    numbers: dict[int, int] = {}  # by identity, since several rows may lie on one line
    places: dict[str, list[int]] = {}

    def examples() -> Iterator[Example]:
        for row in rows:
            if row.example is not None:
                numbers[id(row.example)] = row.number
                places.setdefault(str(row.example.where), []).append(row.number)
                yield row.example

    for batch in render_batches(renderer, examples()):
        for example, rendered in zip(batch.rows, batch.rendered, strict=True):
            tokens.lengths[numbers[id(example)]] = max(len(row.ids) for row in rendered)
        for fault in batch.faults:
            _refuse(tokens, places, fault)
        tell(len(tokens.lengths) + len(tokens.refused))
    return tokens


def _refuse(tokens: Tokens, places: dict[str, list[int]], fault: DataError) -> None:
    for number in places.get(str(fault.where), []):
        if number not in tokens.lengths and number not in tokens.refused:
            tokens.refused[number] = fault.message
            return


def too_long(context: Context) -> Iterator[Finding]:
    """Report rows longer than the base takes."""
    tokens = context.tokens
    if tokens is None:
        return
    rows = [row for row in context.rows if tokens.lengths.get(row.number, 0) > tokens.limit]
    example = ""
    if rows:
        example = f"{tokens.lengths[rows[0].number]:,} tokens: {clip(rows[0].prompt, 100)}"
    yield from on_rows(
        "too_long",
        "warning",
        rows,
        f"longer than the {tokens.limit:,} tokens that `{tokens.base}` is trained on",
        "shorten or split them, or choose a base that takes longer rows; they are left out",
        example,
    )


def template(context: Context) -> Iterator[Finding]:
    """Report rows that the base's chat template refuses."""
    tokens = context.tokens
    if tokens is None:
        return
    rows = [row for row in context.rows if row.number in tokens.refused]
    yield from on_rows(
        "template",
        "error",
        rows,
        f"that the chat template of `{tokens.base}` does not take",
        "change the order or the roles of their turns, or choose another base",
        tokens.refused[rows[0].number] if rows else "",
    )


def unreadable(context: Context) -> Iterator[Finding]:
    """Report rows that cannot be read."""
    faults = context.read.faults
    if not faults:
        return
    number, first = faults[0]
    yield Finding(
        "unreadable",
        "error",
        len(faults),
        tuple(number for number, _ in faults),
        f"{len(faults):,} of {context.read.total:,} rows cannot be read",
        first.hint or "correct or remove them (`--fix` leaves them out)",
        f"{first.where}: {first.message}",
        number,
    )
