"""Formats with one answer and whether it is good, as KTO takes them."""

from __future__ import annotations

from collections.abc import Callable

from tunefork.core.errors import Where
from tunefork.data._messages import read_text, read_tools
from tunefork.data._record import json_kind
from tunefork.data.example import Example, Judged, Message
from tunefork.data.formats.chat import with_system
from tunefork.data.formats.form import Fields, Format, fault, system_turn
from tunefork.data.formats.pairs import PAIR_FORMATS, answer_turns
from tunefork.data.formats.turns import is_turn_list, read_turns

_GOOD = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def read_good(value: object, name: str, where: Where) -> bool:
    """Return whether an answer is good; tables spell it `true`, `false`, `1`, `0`, `yes`, `no`.

    Raises:
        DataError: where it says neither.
    """
    found = _good(value)
    if found is None:
        shown = f"`{value[:40]}`" if isinstance(value, str) else json_kind(value)
        hint = "write true for a good answer, false for a bad one"
        raise fault(f"`{name}` must be true or false, but is {shown}", where, hint)
    return found


def _good(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | str):
        return _GOOD.get(str(value).strip().lower())
    return None


def judged(
    user: str, answer: str, good: str, system: str | None = "system"
) -> Callable[[Fields, Where], Judged]:
    """Return a builder for rows with a column for each of the three."""

    def build(fields: Fields, where: Where) -> Judged:
        is_good = read_good(fields[good], good, where)
        tools = read_tools(fields.get("tools"), where)
        if is_turn_list(fields[user]) and not isinstance(fields[user], str):
            prompt = with_system(fields, read_turns(fields[user], user, where), where)
            completion = answer_turns(fields[answer], answer, where)
            return Judged(prompt, completion, is_good, where, tools)
        asked = Message("user", read_text(fields[user], user, where))
        said = Message("assistant", read_text(fields[answer], answer, where))
        before = system_turn(fields, system, where)
        return Judged((*before, asked), (said,), is_good, where, tools)

    return build


def _conversation(column: str, good: str) -> Format:
    def build(fields: Fields, where: Where) -> Judged:
        turns = with_system(fields, read_turns(fields[column], column, where), where)
        last = max((at for at, turn in enumerate(turns) if turn.role == "assistant"), default=0)
        if last == 0:
            hint = "a question, and then the assistant's answer, are needed"
            raise fault("there is no answer behind a question that could be judged", where, hint)
        is_good = read_good(fields[good], good, where)
        tools = read_tools(fields.get("tools"), where)
        return Judged(turns[:last], turns[last:], is_good, where, tools)

    fits = _is_good_or_bad(good, column)
    return Format("kto", (column, good), build, "judged", ("system", "tools"), fits)


def _tagged(form: Format) -> Format:
    """Return a format of pairs with `kto_tag` beside them."""

    def build(fields: Fields, where: Where) -> Judged:
        row = form.build(fields, where)
        assert isinstance(row, Example), "pairs are conversations"
        is_good = read_good(fields["kto_tag"], "kto_tag", where)
        return Judged(row.messages[:-1], row.messages[-1:], is_good, where)

    fits = _is_good_or_bad("kto_tag")
    return Format("kto", (*form.required, "kto_tag"), build, "judged", form.uses, fits)


def _is_good_or_bad(column: str, turns: str | None = None) -> Callable[[Fields], bool]:
    def fits(fields: Fields) -> bool:
        has_turns = turns is None or is_turn_list(fields[turns])
        return _good(fields[column]) is not None and has_turns

    return fits


JUDGED_FORMATS = (
    *(
        Format(
            "kto",
            ("prompt", answer, label),
            judged("prompt", answer, label),
            "judged",
            ("system", "tools"),
            _is_good_or_bad(label),
        )
        for answer in ("completion", "response")
        for label in ("label", "kto_tag")
    ),
    *(
        _conversation(column, label)
        for column in ("messages", "conversations")
        for label in ("label", "kto_tag")
    ),
    *(_tagged(form) for form in PAIR_FORMATS if form.answer),
)
