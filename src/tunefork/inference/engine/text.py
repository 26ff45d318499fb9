"""Token by token to text: what may be shown already, and what is held back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_HALF = "\ufffd"  # what a decoder writes for bytes that are no whole character


class TextStream:
    """The text of one answer as its tokens come.

    Held back are bytes of a character that is not whole yet, and the beginning of what may become
    a stop text. What follows a stop text, and the stop text itself, is never shown.
    """

    def __init__(self, decode: Callable[[tuple[int, ...]], str], stop: Sequence[str]) -> None:
        """Begin an answer.

        Args:
            decode: Text of token ids; asked for the same few again and again.
            stop: Texts that end it.
        """
        self._decode = decode
        self._stop = tuple(stop)
        self._ids: list[int] = []
        self._begin = 0  # of the tokens that are decoded anew with each new one
        self._read = 0  # tokens whose text is out
        self._held = ""  # decoded, and not shown
        self.is_stopped = False

    def push(self, token: int) -> str:
        """Add a token; return what may be shown of it and of what was held back."""
        self._ids.append(token)
        before = self._text(self._begin, self._read)
        now = self._text(self._begin, len(self._ids))
        if len(now) <= len(before) or now.endswith(_HALF):
            return ""
        self._begin, self._read = self._read, len(self._ids)
        return self._show(now[len(before) :])

    def end(self) -> str:
        """Return what was held back and is shown after all, since nothing more comes."""
        if self.is_stopped:
            return ""
        before = self._text(self._begin, self._read)
        shown = self._show(self._text(self._begin, len(self._ids))[len(before) :])
        if self.is_stopped:
            return shown
        held, self._held = self._held, ""
        return shown + held

    def _text(self, begin: int, end: int) -> str:
        return self._decode(tuple(self._ids[begin:end]))

    def _show(self, text: str) -> str:
        text = self._held + text
        found = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if found:
            self.is_stopped, self._held = True, ""
            return text[: min(found)]
        n_held = max((_overlap(text, stop) for stop in self._stop), default=0)
        cut = len(text) - n_held
        self._held = text[cut:]
        return text[:cut]


def _overlap(text: str, stop: str) -> int:
    """Return the most characters at the end of a text that a stop text begins with."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
