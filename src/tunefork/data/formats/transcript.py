r"""Conversations written out as one text: `\n\nHuman: …\n\nAssistant: …`."""

from __future__ import annotations

import re

from tunefork.core.errors import Where
from tunefork.data._messages import read_text
from tunefork.data.example import Message
from tunefork.data.formats.form import fault

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def is_transcript(value: object) -> bool:
    """Tell whether a text is such a conversation."""
    return (
        isinstance(value, str)
        and _TURN.match(value) is not None
        and "\n\nAssistant:" in value
        and value.lstrip().startswith("Human:")
    )


def read_transcript(value: object, name: str, where: Where) -> tuple[Message, ...]:
    """Return the turns, each without the spaces around it.

    Raises:
        DataError: where the text begins with anything but a turn.
    """
    text = read_text(value, name, where)
    parts = _TURN.split(text)
    if parts[0].strip() or len(parts) == 1:
        hint = "begin it with `Human: `, and every turn behind an empty line"
        raise fault(f"`{name}` begins with no turn of a conversation", where, hint)
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(Message(_ROLES[role], said.strip()) for role, said in turns)
