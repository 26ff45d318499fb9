"""Search with regular expressions of users, in bounded time.

Patterns have Python's syntax and are checked by `re`; the search runs in the `regex` module,
whose engine stops after a time limit and lets other threads work meanwhile. A pattern that
needs more gets a clear error instead of hanging the program.
"""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any

import regex  # type: ignore[import-untyped]
from pydantic import AfterValidator, StringConstraints

TIME_LIMIT_S = 0.5
# A search can take time that grows steeply with the length of the text.
SEARCHED_CHARACTERS = 10_000

# Python takes a brace that is no count for itself; `regex` could read `a{e<=1}` as fuzzy.
_LITERAL_BRACE = re.compile(r"\\N\{[^}]*\}|\\.|\{(?!(?:[0-9]+(?:,[0-9]*)?|,[0-9]*)\})", re.DOTALL)


class SlowPatternError(ValueError):
    """A pattern took longer than the limit on a text."""


def check_pattern(pattern: str) -> str:
    """Return the pattern.

    Raises:
        ValueError: It is not a regular expression of Python, or Python warns that it will not
            mean what its author thinks.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
        _compiled(pattern)
    except (re.error, regex.error, OverflowError, RecursionError, Warning) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


def search(pattern: str, text: str) -> str | None:
    """Return the first match in the text's first 10,000 characters, or None.

    Raises:
        SlowPatternError: It was not done within the limit.
    """
    try:
        found = _compiled(pattern).search(
            text[:SEARCHED_CHARACTERS], timeout=TIME_LIMIT_S, concurrent=True
        )
    except TimeoutError as error:
        raise SlowPatternError(
            f"the pattern took longer than {TIME_LIMIT_S:g} s on this answer; "
            "repetitions inside repetitions make that"
        ) from error
    return None if found is None else str(found.group())


def _compiled(pattern: str) -> Any:  # the package has no types
    return regex.compile(_LITERAL_BRACE.sub(_escaped, pattern), cache_pattern=True)


def _escaped(match: re.Match[str]) -> str:
    return "\\{" if match.group() == "{" else match.group()


Pattern = Annotated[str, StringConstraints(min_length=1), AfterValidator(check_pattern)]
