"""All known formats, in the order in which they are tried: the more a format asks for, the sooner.

So rows of preferences are not taken for the conversations that they also hold.
"""

from __future__ import annotations

from tunefork.data.formats.chat import CHAT_FORMATS
from tunefork.data.formats.form import Fields, Format
from tunefork.data.formats.judged import JUDGED_FORMATS
from tunefork.data.formats.pairs import PAIR_FORMATS
from tunefork.data.formats.preference import PREFERENCE_FORMATS
from tunefork.data.formats.prompt import MESSAGES_PROMPT, PROMPT_FORMATS
from tunefork.data.formats.texts import TEXT_FORMATS

FORMATS: tuple[Format, ...] = (
    *PREFERENCE_FORMATS,
    *JUDGED_FORMATS,
    MESSAGES_PROMPT,
    *CHAT_FORMATS,
    *PAIR_FORMATS,
    *TEXT_FORMATS,
    *PROMPT_FORMATS,
)


def candidates(fields: Fields) -> list[Format]:
    """Return the formats that a row may have: mostly one, or none.

    Several where it has more than one pair of columns for a question and its answer.
    """
    first = next((known for known in FORMATS if known.takes(fields)), None)
    if first is None:
        return []
    found = [first]
    if first.answer is not None:
        for known in PAIR_FORMATS:
            is_new = known.answer not in {None, *(other.answer for other in found)}
            if is_new and known.takes(fields):
                found.append(known)
    return found
