"""The last look before training: stop what cannot work, count what will, show what is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunefork.core.errors import DataError, Where
from tunefork.data.example import Example
from tunefork.data.render import Rendered, Renderer
from tunefork.data.tokenizer import Tokenizer

_MAX_PLACES = 5
# Comparing prompts costs a second tokenisation, so a sample stands for all rows.
_SEAM_SAMPLE = 100


@dataclass(frozen=True)
class Preflight:
    """What will be trained on. `kept` indexes the rows that fit the limit and train something.

    Token counts are over the kept rows; `findings` are sentences for the user.
    """

    kept: list[int]
    too_long: list[Where]
    n_tokens: int
    n_trained_tokens: int
    findings: tuple[str, ...] = ()


def preflight(
    examples: Sequence[Example],
    rendered: Sequence[Rendered],
    renderer: Renderer,
    max_length: int,
) -> Preflight:
    """Check rendered rows, of which row i is `examples[i]`; `max_length` counts tokens.

    Raises:
        DataError: where an answer is empty, nothing is trained, the end of turn is never
            trained, or every row is longer than the limit; all of these at once.
    """
    problems = [
        *_empty_answers(examples),
        *_nothing_trained(examples, rendered),
        *_end_untrained(examples, rendered, renderer),
        *_all_too_long(examples, rendered, max_length),
    ]
    if problems:
        first, *rest = problems
        raise DataError(
            first.message,
            where=first.where,
            hint=first.hint,
            details=(*first.details, *(f"also: {problem.message}" for problem in rest)),
        )
    too_long = [at for at, row in enumerate(rendered) if len(row.ids) > max_length]
    untrained = [at for at, row in enumerate(rendered) if not any(row.weights)]
    left_out = {*too_long, *untrained}
    kept = [at for at in range(len(rendered)) if at not in left_out]
    if not kept:
        raise _problem(
            f"every row is longer than {max_length} tokens or trains nothing",
            [0],
            examples,
            "shorten the rows, raise `training.max_length`, or remove `weight: 0`",
        )
    findings = [
        *_report_rows(f"longer than {max_length} tokens, left out", too_long, examples),
        *_report_rows("without anything to train on, left out", untrained, examples),
        *_endless_rows(examples, rendered, kept, renderer),
        *_moved_seams(examples, rendered, kept, renderer),
    ]
    return Preflight(
        kept=kept,
        too_long=[examples[at].where for at in too_long],
        n_tokens=sum(len(rendered[at].ids) for at in kept),
        n_trained_tokens=sum(weight > 0 for at in kept for weight in rendered[at].weights),
        findings=tuple(findings),
    )


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


def _empty_answers(examples: Sequence[Example]) -> list[DataError]:
    empty = [
        at
        for at, example in enumerate(examples)
        if any(
            turn.role == "assistant"
            and turn.weight > 0
            and not turn.content.strip()
            and not turn.tool_calls
            for turn in example.messages
        )
    ]
    if not empty:
        return []
    hint = "fill these answers in, or remove the rows"
    return [_problem(f"{_rows(len(empty))} with an empty answer", empty, examples, hint)]


def _nothing_trained(examples: Sequence[Example], rendered: Sequence[Rendered]) -> list[DataError]:
    if any(any(row.weights) for row in rendered):
        return []
    hint = "give at least one assistant turn a text and no `weight: 0`"
    return [_problem("nothing to train on: no row has a trained token", [0], examples, hint)]


def _end_untrained(
    examples: Sequence[Example], rendered: Sequence[Rendered], renderer: Renderer
) -> list[DataError]:
    trains_something = any(any(row.weights) for row in rendered)
    if not trains_something or any(_trains_end(row, renderer) for row in rendered):
        return []
    names = sorted(renderer.tokenizer.token_text(key) for key in renderer.end_ids)
    known = f" ({', '.join(f'`{name}`' for name in names)})" if names else ""
    return [
        _problem(
            f"the end of the turn{known} is never trained, so the model would not stop",
            [0],
            examples,
            "have the chat template write the end token after each assistant turn, or name the "
            "token that it does write as `eos_token` in the model folder",
        )
    ]


def _all_too_long(
    examples: Sequence[Example], rendered: Sequence[Rendered], max_length: int
) -> list[DataError]:
    shortest = min((len(row.ids) for row in rendered), default=0)
    if shortest <= max_length:
        return []
    message = f"every row is longer than {max_length} tokens; the shortest has {shortest}"
    at = next(at for at, row in enumerate(rendered) if len(row.ids) == shortest)
    hint = f"set `training.max_length` to {shortest} or more, or shorten the rows"
    return [_problem(message, [at], examples, hint)]


def _problem(message: str, rows: list[int], examples: Sequence[Example], hint: str) -> DataError:
    """Return an error at the first of some rows, with the places of the next few."""
    details = [f"also at {examples[at].where}" for at in rows[1 : _MAX_PLACES + 1]]
    if len(rows) > _MAX_PLACES + 1:
        details.append(f"... and {len(rows) - _MAX_PLACES - 1} more")
    where = examples[rows[0]].where if examples else None
    return DataError(message, where=where, hint=hint, details=tuple(details))


def _trains_end(row: Rendered, renderer: Renderer) -> bool:
    pairs = zip(row.ids, row.weights, strict=True)
    return any(weight > 0 and key in renderer.end_ids for key, weight in pairs)


def _endless_rows(
    examples: Sequence[Example],
    rendered: Sequence[Rendered],
    kept: Sequence[int],
    renderer: Renderer,
) -> list[str]:
    endless = [at for at in kept if not _trains_end(rendered[at], renderer)]
    return _report_rows("that do not train the end of the turn", endless, examples)


def _moved_seams(
    examples: Sequence[Example],
    rendered: Sequence[Rendered],
    kept: Sequence[int],
    renderer: Renderer,
) -> list[str]:
    """Find rows whose prompt, tokenised alone as in use, is not how the trained row begins."""
    moved = []
    for at in kept[:_SEAM_SAMPLE]:
        example = examples[at]
        if not example.prompt or example.messages[-1].role != "assistant":
            continue
        prompt = renderer.prompt(example.prompt, example.tools)
        if rendered[at].ids[: len(prompt)] != prompt:
            moved.append(at)
    what = "whose prompt has other tokens in use than in training (of those sampled)"
    return _report_rows(what, moved, examples)


def _report_rows(what: str, rows: Sequence[int], examples: Sequence[Example]) -> list[str]:
    if not rows:
        return []
    places = ", ".join(str(examples[at].where) for at in rows[:_MAX_PLACES])
    more = f" and {len(rows) - _MAX_PLACES} more" if len(rows) > _MAX_PLACES else ""
    return [f"{_rows(len(rows))} {what}: {places}{more}"]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
