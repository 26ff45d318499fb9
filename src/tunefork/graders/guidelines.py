"""The `guidelines` grader: a list of rules, each of which can be checked without a model."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from tunefork.graders.form import count_sentences
from tunefork.graders.grade import (
    Failure,
    Grade,
    Grader,
    comparable,
    failed,
    not_empty,
    share,
    shown,
)
from tunefork.graders.patterns import Pattern, SlowPatternError, search
from tunefork.graders.text import Text, has_text, listed

_EMOJI_CATEGORY = "So"
_LEAST_LETTERS = 20
# Of languages that hardly differ in a short text, each counts as the other.
_ALIKE = ({"da", "no", "nb", "nn"}, {"hr", "bs", "sr"}, {"id", "ms"}, {"cs", "sk"})


class Rule(BaseModel):
    """One rule: exactly one of these fields, and `name` where the detail should say more.

    Text is looked for as whole words in any case. `language` is an ISO 639-1 code such as
    `en`; an answer of fewer than 20 letters has any language.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text | None = None
    must_contain: tuple[Text, ...] = ()
    must_not_contain: tuple[Text, ...] = ()
    starts_with: Text | None = None
    ends_with: Text | None = None
    matches: Pattern | None = None
    must_not_match: Pattern | None = None
    min_words: PositiveInt | None = None
    max_words: PositiveInt | None = None
    max_sentences: PositiveInt | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2}$")] | None = None
    no_exclamation: Literal[True] | None = None
    no_question: Literal[True] | None = None
    no_emoji: Literal[True] | None = None

    @field_validator("must_contain", "must_not_contain", mode="before")
    @classmethod
    def _single_as_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_one(self) -> Rule:
        if len(self._given()) != 1:
            known = ", ".join(name for name in Rule.model_fields if name != "name")
            raise ValueError(f"a rule has exactly one of {known}")
        return self

    def fault(self, answer: str) -> str | None:
        """Return how an answer breaks the rule, or None.

        Raises:
            SlowPatternError: A pattern took too long.
        """
        fault = next(self._faults(answer.strip()), None)
        return f"{self.name}: {fault}" if fault and self.name else fault

    def describe(self) -> str:
        """Name the rule."""
        if self.name:
            return self.name
        ((field, value),) = self._given().items()
        words = field.replace("_", " ")
        if value is True:
            return words
        return f"{words} " + (
            listed(list(value), "and") if isinstance(value, tuple) else str(value)
        )

    def _given(self) -> dict[str, object]:
        fields = (name for name in Rule.model_fields if name != "name")
        values = {name: self.__dict__[name] for name in fields}
        return {name: value for name, value in values.items() if value not in (None, ())}

    def _faults(self, answer: str) -> Iterator[str]:
        yield from self._faults_of_text(answer)
        yield from self._faults_of_form(answer)
        if self.language and not _is_language(answer, self.language):
            yield f"is not in `{self.language}`"

    def _faults_of_text(self, answer: str) -> Iterator[str]:
        text = comparable(answer)
        yield from (f"lacks {shown(w)}" for w in self.must_contain if not has_text(text, w))
        yield from (f"contains {shown(w)}" for w in self.must_not_contain if has_text(text, w))
        if self.starts_with and not text.startswith(comparable(self.starts_with)):
            yield f"does not start with {shown(self.starts_with)}"
        if self.ends_with and not text.endswith(comparable(self.ends_with)):
            yield f"does not end with {shown(self.ends_with)}"
        if self.matches and search(self.matches, answer) is None:
            yield f"nothing matches {shown(self.matches)}"
        if self.must_not_match and (found := search(self.must_not_match, answer)) is not None:
            yield f"{shown(found)} matches {shown(self.must_not_match)}"

    def _faults_of_form(self, answer: str) -> Iterator[str]:
        n_words = len(answer.split())
        if self.min_words and n_words < self.min_words:
            yield f"{n_words} of at least {self.min_words} words"
        if self.max_words and n_words > self.max_words:
            yield f"{n_words} of at most {self.max_words} words"
        if self.max_sentences and (n := count_sentences(answer)) > self.max_sentences:
            yield f"{n} of at most {self.max_sentences} sentences"
        if self.no_exclamation and any(sign in answer for sign in "!\uff01"):
            yield "has an exclamation mark"
        if self.no_question and any(sign in answer for sign in "?\uff1f"):
            yield "asks a question"
        if self.no_emoji and any(map(_is_emoji, answer)):
            yield "has an emoji"


class Guidelines(Grader):
    """The answer keeps a list of `rules`; the score is the share that it keeps.

    Passed from `minimum` on, by default only when all are kept.
    """

    type: Literal["guidelines"] = "guidelines"
    rules: Annotated[tuple[Rule, ...], AfterValidator(not_empty)]
    minimum: Annotated[float, Field(gt=0, le=1)] = 1.0
    reference_setting = None

    def grade(self, answer: str) -> Grade:
        """Check each rule; what is broken is the detail."""
        try:
            faults = [fault for rule in self.rules if (fault := rule.fault(answer))]
        except SlowPatternError as error:
            return failed(Failure("other_error", str(error)))
        n = len(self.rules)
        return share(n - len(faults), n, self.minimum, "; ".join(faults) or f"keeps all {n} rules")

    def describe(self) -> str:
        """Name the rules."""
        return "keeps the rules: " + "; ".join(rule.describe() for rule in self.rules)


def _is_emoji(letter: str) -> bool:
    return ord(letter) > 0x2000 and unicodedata.category(letter) == _EMOJI_CATEGORY


def _is_language(answer: str, language: str) -> bool:
    if sum(map(str.isalpha, answer)) < _LEAST_LETTERS:
        return True
    found = _identifier().classify(answer.casefold())[0]
    return found == language or any({found, language} <= alike for alike in _ALIKE)


@cache
def _identifier() -> Any:  # the package has no types
    from py3langid.langid import (  # type: ignore[import-untyped]
        MODEL_FILE,
        LanguageIdentifier,
    )

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
