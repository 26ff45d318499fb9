"""Formats of a text alone, or with its label or labels."""

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
        value = fields[label]
        names = _labels(value)
        if names is None:
            raise fault(
                f"`{label}` must be the name of a label, or a list of names, but is "
                f"{_shown(value)}",
                where,
                "give each text one label: its name, or its number; or several, as a list",
            )
        names = tuple(read_text(name, label, where) for name in dict.fromkeys(names))
        is_list = isinstance(value, list) or not names
        name = ", ".join(names)
        return Labelled(
            read_text(fields[text], text, where), name, where, names if is_list else None
        )

    return build


def plain(column: str) -> Callable[[Fields, Where], Text]:
    """Return a builder for rows with a text."""

    def build(fields: Fields, where: Where) -> Text:
        return Text(read_text(fields[column], column, where), where)

    return build


def several(text: str, labels: str) -> Callable[[Fields, Where], Labelled]:
    """Return a builder for rows with a text and any number of labels; nothing there is no label."""
    build = labelled(text, labels)

    def build_several(fields: Fields, where: Where) -> Labelled:
        return build({**fields, labels: []} if _is_nothing(fields[labels]) else fields, where)

    return build_several


def _labels(value: object) -> tuple[str, ...] | None:
    """Return names of labels: one, or those of a list; None where it holds something else."""
    if not isinstance(value, list):
        name = _label(value)
        return None if name is None else (name,)
    names = [_label(each) for each in value]
    found = tuple(name for name in names if name is not None)
    return found if len(found) == len(names) else None


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "a list of other things"
    return "empty" if isinstance(value, str) else json_kind(value)


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _label(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def _has_label(label: str, *, alone: bool) -> Callable[[Fields], bool]:
    def fits(fields: Fields) -> bool:
        is_named = _labels(fields[label]) is not None and isinstance(fields["text"], str)
        return is_named and (len(fields) == 2 or not alone)

    return fits


def _has_labels(fields: Fields) -> bool:
    names = fields["labels"]
    return isinstance(fields["text"], str) and (_is_nothing(names) or _labels(names) is not None)


def _is_only_text(fields: Fields) -> bool:
    # Beside one of these the text may be what is learned, or what is labelled: not ours to say.
    return not {"label", "labels", *_OTHER_LABELS} & set(fields)


TEXT_FORMATS = (
    Format(
        "text/labels", ("text", "labels"), several("text", "labels"), "labelled", fits=_has_labels
    ),
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
