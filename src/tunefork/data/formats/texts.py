"""Formats of a text alone, or with its label."""

from __future__ import annotations

from collections.abc import Callable

from tunefork.core.errors import Where
from tunefork.data._messages import read_text
from tunefork.data._record import json_kind
from tunefork.data.example import Labelled, Text
from tunefork.data.formats.form import Fields, Format, fault

# Names of the label where it is the only column beside the text.
_OTHER_LABELS = ("category", "intent", "class", "topic", "sentiment")


def labelled(text: str, label: str) -> Callable[[Fields, Where], Labelled]:
    """Return a builder for rows with a text and its label."""

    def build(fields: Fields, where: Where) -> Labelled:
        name = _label(fields[label])
        if name is None:
            raise fault(
                f"`{label}` must be the name of a label, but is {json_kind(fields[label])}",
                where,
                "give each text one label: its name, or its number",
            )
        return Labelled(read_text(fields[text], text, where), read_text(name, label, where), where)

    return build


def plain(column: str) -> Callable[[Fields, Where], Text]:
    """Return a builder for rows with a text."""

    def build(fields: Fields, where: Where) -> Text:
        return Text(read_text(fields[column], column, where), where)

    return build


def _label(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def _has_label(label: str, *, alone: bool) -> Callable[[Fields], bool]:
    def fits(fields: Fields) -> bool:
        is_named = _label(fields[label]) is not None and isinstance(fields["text"], str)
        return is_named and (len(fields) == 2 or not alone)

    return fits


def _is_only_text(fields: Fields) -> bool:
    # Beside one of these the text may be what is learned, or what is labelled: not ours to say.
    return not {"label", "labels", *_OTHER_LABELS} & set(fields)


TEXT_FORMATS = (
    *(
        Format(
            "text/label",
            ("text", label),
            labelled("text", label),
            "labelled",
            fits=_has_label(label, alone=label in _OTHER_LABELS),
        )
        for label in ("label_text", "label", *_OTHER_LABELS)
    ),
    Format("text", ("text",), plain("text"), "text", fits=_is_only_text),
)
