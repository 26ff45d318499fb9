"""Can a goal be tested? By stated rules, no model asked.

A goal can be tested where two people would mark the same answer alike. It takes what is asked
(answer, write, classify, …), about what, and how a right answer is told from a wrong one: the facts
in it, its form, its source, or whom it should sound like. Words that only say "better" do none of
that. The rules know English words; a goal in another language is only asked to have a few.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tunefork.core.errors import SpecError

RULES = (
    "say what it is asked to do: answer, write, classify, extract, summarise, translate, …",
    "say about what: whose questions, which texts, what subject",
    "say how to tell a right answer from a wrong one: a fact, a form, a source, a voice",
    "words such as better, smarter or good say nothing that can be checked",
)
EXAMPLES = (
    "Answers questions about our opening hours and prices with the right figure, in one sentence",
    "Sorts support mails into billing, delivery, returns or other, with that word alone",
    "Writes product descriptions of at most 60 words in the voice of our catalogue",
)
_WORD = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W\d_]+)*|\d+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VAGUE = _words(
    """
    accurate advanced amazing awesome best better bright brilliant capable clever cleverer cool
    correct decent effective efficient enhance enhanced excellent expert fantastic fast faster fix
    good great greater helpful high high-quality human humanlike ideal improve improved improves
    improving increase incredible intelligent intelligence more nice nicer optimal optimise optimize
    perfect performance powerful professional quality quicker reliable sharper smart smarter
    smartest strong stronger super superb top upgrade useful well wise wiser wonderful works world
    class
    """
)
_EMPTY = _words(
    """
    a about ai all also an and any anything are as assistant at be become becomes been being bot but
    by can chatbot could do does everything everyone for from general generally get gets give gives
    gpt has have he her his how i if in into is it its just kind let like lot llm make makes making
    me model models most much my need needs network never new not of on one or our out overall own
    please really should so some something stuff system than that the their them then there these
    they thing things this those to too tuned tune us very want wants was way we what when which
    who will with would you your
    """
)
_FEWEST_WORDS = 3  # that say something: a task, and what it is about


@dataclass(frozen=True)
class Goal:
    """A goal as the rules see it.

    Attributes:
        text: In the user's words.
        telling: Its words that can be checked.
        vague: Its words that cannot.
    """

    text: str
    telling: tuple[str, ...]
    vague: tuple[str, ...]

    @property
    def is_testable(self) -> bool:
        """Whether enough of it can be checked."""
        return len(self.telling) >= _FEWEST_WORDS


def read_goal(text: str) -> Goal:
    """Take a goal apart."""
    words = [word.casefold() for word in _WORD.findall(text)]
    vague = tuple(word for word in words if word in _VAGUE)
    telling = tuple(word for word in words if word not in _VAGUE | _EMPTY)
    return Goal(text, tuple(dict.fromkeys(telling)), vague)


def require_testable(text: str, examples: Sequence[str] = EXAMPLES) -> Goal:
    """Return a goal that can be tested.

    Args:
        text: In the user's words.
        examples: Goals that can be, to show.

    Raises:
        SpecError: It cannot; the error says what is missing and shows such goals.
    """
    goal = read_goal(text)
    if goal.is_testable:
        return goal
    if not text.strip():
        problem = "the goal is empty"
    elif goal.vague:
        said = ", ".join(f"`{word}`" for word in dict.fromkeys(goal.vague))
        problem = f"the goal `{_clipped(text)}` cannot be tested: nobody can mark {said}"
    else:
        problem = f"the goal `{_clipped(text)}` says too little to be tested"
    raise SpecError(
        problem,
        hint="write the goal so that two people would mark an answer alike",
        details=(*(f"- {rule}" for rule in RULES), "for example:", *(f"  {e}" for e in examples)),
    )


def _clipped(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79].rstrip() + "…"
