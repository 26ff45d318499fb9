"""Where in a rendered conversation an assistant's turn lies, for any chat template.

A template is a program; nobody can read the places off it. They are found by asking it:

* begin: what it writes for the turns before, asking for an answer, is the prompt. Where that
  is not how the whole text begins (some templates open a thought there that they do not show
  in a finished turn), the turn is written again with a mark in place of its content.
* end: the mark's text ends like the whole text does, from the end of the content on. Then
  the token that ends the turn is taken in, where it follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunefork.core.errors import DataError, Where
from tunefork.data.template import ChatTemplate
from tunefork.data.tokenizer import Tokenizer

Turn = Mapping[str, Any]

# Private-use characters: no template changes them, no text begins or ends like them.
_MARK = "\ue0f7\ue0f2\ue0f9"
_THOUGHT_MARK = "\ue0f4\ue0f1\ue0f5"


@dataclass(frozen=True)
class Span:
    """Characters [begin, end) of a rendered text, and the loss weight of their tokens."""

    begin: int
    end: int
    weight: float


class SpanFinder:
    """Finds assistant turns; `end_ids` are the tokens that end one."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self._template = template
        added = {text: key for text, key in tokenizer.added_ids.items() if text.strip()}
        ends = {text for text, key in added.items() if key in tokenizer.eos_ids}
        after = _text_after_answer(template).lstrip()
        # Longest first, as the tokenizer itself matches them.
        closing = [text for text in sorted(added, key=len, reverse=True) if after.startswith(text)]
        ends.update(closing[:1])
        self.end_ids = tokenizer.eos_ids | frozenset(added[text] for text in ends)
        pattern = "|".join(re.escape(text) for text in sorted(ends, key=len, reverse=True))
        self._end = re.compile(rf"\s*(?:{pattern})" if pattern else r"(?!)")

    def find(
        self,
        text: str,
        turns: Sequence[Turn],
        index: int,
        weight: float,
        tools: Sequence[dict[str, Any]],
        where: Where | None,
    ) -> Span:
        """Return the span of assistant turn `index` in `text`, the rendering of all turns.

        Raises:
            DataError: where the template does not show the turn.
        """
        marked = self._render([*turns[:index], _marked(turns[index]), *turns[index + 1 :]], tools)
        is_dropped = marked is not None and _MARK not in marked
        begin = self._begin(text, marked, turns[:index], tools)
        end = self._end_of_content(text, marked)
        if end is None:
            end = self._end_of_turn(text, turns[: index + 1], tools)
        if is_dropped or begin is None or end is None:
            raise DataError(
                f"the chat template does not show turn {index + 1}, so it cannot be trained",
                where=where,
                hint="give this turn `weight: 0`, or remove it",
            )
        end = max(begin, end)
        closing = self._end.match(text, end)
        return Span(begin, closing.end() if closing else end, weight)

    def _begin(
        self, text: str, marked: str | None, before: Sequence[Turn], tools: Sequence[dict[str, Any]]
    ) -> int | None:
        prompt = self._render(before, tools, add_generation_prompt=True)
        if prompt is not None and text.startswith(prompt):
            return len(prompt)
        if marked is None:
            return None
        places = [marked.find(mark) for mark in (_THOUGHT_MARK, _MARK) if mark in marked]
        return _common_prefix(text, marked[: min(places)]) if places else None

    def _end_of_content(self, text: str, marked: str | None) -> int | None:
        if marked is None or _MARK not in marked:
            return None
        rest = marked[marked.rindex(_MARK) + len(_MARK) :]
        return len(text) - len(rest) if text.endswith(rest) else None

    def _end_of_turn(
        self, text: str, turns: Sequence[Turn], tools: Sequence[dict[str, Any]]
    ) -> int | None:
        """Return the end by what the template writes up to and with this turn."""
        upto = self._render(turns, tools)
        if upto is None or not text.startswith(upto):
            return None
        closings = list(self._end.finditer(upto.rstrip()))
        ends_here = closings and closings[-1].end() == len(upto.rstrip())
        return closings[-1].start() if ends_here else len(upto.rstrip())

    def _render(
        self,
        turns: Sequence[Turn],
        tools: Sequence[dict[str, Any]],
        add_generation_prompt: bool = False,
    ) -> str | None:
        """Return the text, or None where the template refuses: it is only asked, not shown."""
        try:
            return self._template.render(
                turns, tools=tools, add_generation_prompt=add_generation_prompt
            )
        except DataError:
            return None


def _marked(turn: Turn) -> dict[str, Any]:
    """Return the turn with marks for its texts, and without tool calls, which stand behind."""
    marked = {key: value for key, value in turn.items() if key != "tool_calls"}
    marked["content"] = _MARK
    if "reasoning_content" in turn:
        marked["reasoning_content"] = _THOUGHT_MARK
    return marked


def _text_after_answer(template: ChatTemplate) -> str:
    """Return what the template writes behind the answer of a plain question."""
    question = {"role": "user", "content": "Hello"}
    answer = {"role": "assistant", "content": _MARK}
    system = {"role": "system", "content": "Help."}
    for turns in ([question, answer], [system, question, answer]):
        try:
            text = template.render(turns)
        except DataError:  # this template wants other turns
            continue
        if _MARK in text:
            return text[text.rindex(_MARK) + len(_MARK) :]
    return ""


def _common_prefix(one: str, other: str) -> int:
    """Return the length of the longest common beginning, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
