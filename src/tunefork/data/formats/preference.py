"""Formats with a better and a worse answer, in the spellings of many tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunefork.core.errors import Where
from tunefork.data._messages import read_messages, read_text, read_tools
from tunefork.data.example import Message, Preference
from tunefork.data.formats.chat import with_system
from tunefork.data.formats.form import Fields, Format, fault, system_turn
from tunefork.data.formats.pairs import answer_turns, instruction_turn
from tunefork.data.formats.transcript import is_transcript, read_transcript
from tunefork.data.formats.turns import is_turn_list, read_turn, read_turns

# Which columns hold the better and the worse answer.
_ANSWERS = (
    ("chosen", "rejected"),
    ("chosen_response", "rejected_response"),
    ("response_chosen", "response_rejected"),
    ("chosen_messages", "rejected_messages"),
    ("preferred", "rejected"),
)
# Which column holds the prompt, the likeliest first.
_PROMPTS = (
    "prompt",
    "instruction",
    "question",
    "query",
    "conversations",
    "conversation",
    "messages",
    "input",
    "user",
)
_Turns = tuple[Message, ...]


def preference(
    prompt: _Turns, chosen: _Turns, rejected: _Turns, fields: Fields, where: Where
) -> Preference:
    """Return the row; answers that repeat the prompt are cut to what is new in them."""
    chosen, rejected = (_behind(prompt, answer) for answer in (chosen, rejected))
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[0].role != "assistant":
            found = f"a turn of the {turns[0].role}" if turns else "nothing"
            raise fault(
                f"the {name} answer begins with {found}, not with one of the assistant",
                where,
                "the two may differ only from an answer of the assistant on",
            )
    return Preference(prompt, chosen, rejected, where, read_tools(fields.get("tools"), where))


def prompted(
    prompt: str, chosen: str, rejected: str, system: str | None = "system"
) -> Callable[[Fields, Where], Preference]:
    """Return a builder for rows with a column for each of the three."""

    def build(fields: Fields, where: Where) -> Preference:
        before = _prompt(fields, prompt, system, where)
        return preference(
            before,
            _answer(fields[chosen], chosen, where),
            _answer(fields[rejected], rejected, where),
            fields,
            where,
        )

    return build


def _unprompted(chosen: str, rejected: str) -> Callable[[Fields, Where], Preference]:
    """Return a builder for rows whose prompt is what both conversations begin with."""

    def build(fields: Fields, where: Where) -> Preference:
        better, worse = (_answer(fields[name], name, where) for name in (chosen, rejected))
        n_shared = _n_shared(better, worse)
        if n_shared == 0:
            hint = "both must begin with the same question; or give it a column `prompt`"
            raise fault(f"`{chosen}` and `{rejected}` share no beginning", where, hint)
        prompt = with_system(fields, better[:n_shared], where)
        return preference(prompt, better[n_shared:], worse[n_shared:], fields, where)

    return build


def _n_shared(first: _Turns, second: _Turns) -> int:
    """Return how many turns both begin with, so that each still has an answer behind them."""
    longest = min(len(first), len(second)) - 1
    same = [one == other for one, other in zip(first, second, strict=False)]
    n_shared = same.index(False) if False in same else len(same)
    n_shared = min(n_shared, longest)
    while n_shared and (first[n_shared].role, second[n_shared].role) != ("assistant", "assistant"):
        n_shared -= 1
    return n_shared


def _behind(prompt: _Turns, answer: _Turns) -> _Turns:
    """Return what an answer adds to the prompt that it may repeat."""
    asked = tuple((turn.role, turn.content) for turn in prompt)
    for begin in (asked, asked[1:] if asked and asked[0][0] == "system" else ()):
        said = tuple((turn.role, turn.content) for turn in answer[: len(begin)])
        if begin and said == begin:
            return answer[len(begin) :]
    return answer


def _prompt(fields: Fields, column: str, system: str | None, where: Where) -> _Turns:
    value = fields[column]
    if is_transcript(value):
        return with_system(fields, read_transcript(value, column, where), where)
    if not isinstance(value, str) or is_turn_list(value):
        return with_system(fields, read_turns(value, column, where), where)
    turn = Message("user", read_text(value, column, where))
    if column == "instruction":
        turn = instruction_turn(fields, where)
    return (*system_turn(fields, system, where), turn)


def _answer(value: Any, name: str, where: Where) -> _Turns:  # any JSON value
    if isinstance(value, dict):
        return (
            read_turn(
                {"role": "assistant", **value} if "from" not in value else value, name, where
            ),
        )
    if is_transcript(value):
        return read_transcript(value, name, where)
    if isinstance(value, list) or is_turn_list(value):
        return read_turns(value, name, where)
    return (Message("assistant", read_text(value, name, where)),)


def _from_openai(fields: Fields, where: Where) -> Preference:
    given = fields["input"]
    turns = given.get("messages") if isinstance(given, dict) else None
    prompt = read_messages(turns, where)
    better, worse = (
        answer_turns(fields[name], name, where)
        for name in ("preferred_output", "non_preferred_output")
    )
    return preference(prompt, better, worse, given, where)


def _from_messages(rejected: str) -> Format:
    """Return ms-swift's format: a conversation, and what should not have been its end."""

    def build(fields: Fields, where: Where) -> Preference:
        turns = with_system(fields, read_turns(fields["messages"], "messages", where), where)
        last = max((at for at, turn in enumerate(turns) if turn.role == "assistant"), default=0)
        worse = _answer(fields[rejected], rejected, where)
        return preference(turns[:last], turns[last:], worse, fields, where)

    name = f"messages + {rejected}"
    return Format(name, ("messages", rejected), build, "preference", ("system", "tools"))


def _are_conversations(chosen: str, rejected: str) -> Callable[[Fields], bool]:
    def fits(fields: Fields) -> bool:
        return all(
            is_transcript(fields[name]) or is_turn_list(fields[name]) for name in (chosen, rejected)
        )

    return fits


def _is_given(column: str) -> Callable[[Fields], bool]:
    return lambda fields: fields[column] is not None


PREFERENCE_FORMATS = (
    Format(
        "openai preference",
        ("input", "preferred_output", "non_preferred_output"),
        _from_openai,
        "preference",
    ),
    *(
        Format(
            "preference",
            (prompt, chosen, rejected),
            prompted(prompt, chosen, rejected),
            "preference",
            ("system", "tools", *(("input",) if prompt == "instruction" else ())),
            _is_given(prompt),
        )
        for chosen, rejected in _ANSWERS
        for prompt in _PROMPTS
    ),
    Format(
        "preference",
        ("prompt", "text", "rejected_text"),
        prompted("prompt", "text", "rejected_text"),
        "preference",
        ("system",),
    ),
    _from_messages("rejected_response"),
    _from_messages("rejected_messages"),
    *(
        Format(
            "preference without prompt",
            (chosen, rejected),
            _unprompted(chosen, rejected),
            "preference",
            ("system", "tools"),
            _are_conversations(chosen, rejected),
        )
        for chosen, rejected in _ANSWERS
    ),
)
