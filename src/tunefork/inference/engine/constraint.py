"""What an answer has to match: a JSON schema, a regular expression, one of several texts.

A constraint is a grammar; where it is given, a token may only be drawn if the text can still come
to match. llguidance says which those are.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import llguidance
import numpy as np
from numpy.typing import NDArray

from tunefork.core.errors import InputError

_BITS = 32
# Without a bound a model may go on indenting until its tokens are used up.
_SPACE = r"[ \n\r\t]{1,20}"


@dataclass(frozen=True)
class Constraint:
    """A grammar that llguidance reads; built by the functions below, which refuse a bad one."""

    grammar: str


def json_object() -> Constraint:
    """Let the answer be any JSON object."""
    return json_schema({"type": "object"})


def json_schema(schema: dict[str, Any]) -> Constraint:
    """Let the answer be JSON that matches a schema.

    Raises:
        InputError: The schema is none, or says what cannot be enforced.
    """
    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(
            schema, {"whitespace_pattern": _SPACE}
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad("JSON schema", str(error)) from error
    return _checked(grammar, "JSON schema")


def regex(pattern: str) -> Constraint:
    """Let the whole answer match a regular expression, in the syntax of Rust's `regex`.

    Raises:
        InputError: It is none.
    """
    return _checked(llguidance.LLMatcher.grammar_from_regex(pattern), "regular expression")


def choice(texts: Sequence[str]) -> Constraint:
    """Let the answer be one of some texts.

    Raises:
        InputError: There are none.
    """
    if not texts or not all(texts):
        raise InputError("a choice needs texts, none of them empty", hint="name at least one")
    options = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    return _checked(llguidance.LLMatcher.grammar_from_lark(f"start: {options}"), "choice")


def _checked(grammar: str, what: str) -> Constraint:
    is_wrong, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar)
    if is_wrong:
        raise _bad(what, messages[0])
    return Constraint(grammar)


def _bad(what: str, reason: str) -> InputError:
    return InputError(
        f"the {what} cannot be enforced: {reason.strip()}",
        hint="correct it, or leave out the part that is named",
    )


class Grammars:
    """The constraints' view of a tokenizer, made when it is first needed; for any thread."""

    def __init__(self, tokenizer_json: str, n_vocabulary: int, end_ids: Collection[int]) -> None:
        """Remember what is needed.

        Args:
            tokenizer_json: What `tokenizers` saves of a tokenizer.
            n_vocabulary: How many logits the model gives.
            end_ids: Tokens that end an answer.
        """
        self.n_vocabulary = n_vocabulary
        self._source = (tokenizer_json, n_vocabulary, sorted(end_ids))
        self._lock = threading.Lock()
        self._tokens: llguidance.LLTokenizer | None = None

    @property
    def tokens(self) -> llguidance.LLTokenizer:
        """The tokenizer in llguidance's form.

        Raises:
            InputError: It is of a kind that llguidance cannot read.
        """
        with self._lock:
            if self._tokens is None:
                text, size, end_ids = self._source
                try:
                    self._tokens = llguidance.LLTokenizer(text, n_vocab=size, eos_token=end_ids)
                except ValueError as error:
                    raise InputError(
                        f"answers of this base cannot be constrained: {error}",
                        hint="ask without a format, or use a base with a byte-level tokenizer",
                    ) from error
            return self._tokens

    def bytes_of(self, token: int) -> bytes | None:
        """Return what a token stands for, or None where the tokenizer does not say."""
        try:
            return bytes(self.tokens.decode_bytes([token]))
        except InputError:
            return None

    def matcher(self, constraint: Constraint) -> Matcher:
        """Return what follows an answer under a constraint.

        Raises:
            InputError: The grammar is too complex.
        """
        found = llguidance.LLMatcher(self.tokens, constraint.grammar, log_level=0)
        if found.is_error():
            raise _bad("constraint", found.get_error())
        return Matcher(found, self.n_vocabulary)


class Matcher:
    """Follows one answer, and says which tokens may come next."""

    def __init__(self, matcher: llguidance.LLMatcher, n_vocabulary: int) -> None:
        self._matcher = matcher
        self._n_vocabulary = n_vocabulary
        self._bits = np.zeros(-(-n_vocabulary // _BITS), dtype=np.int32)

    def allowed(self) -> NDArray[np.bool_]:
        """Return which tokens may come next: (vocabulary,). Other threads go on meanwhile.

        Raises:
            InputError: The grammar has become too complex to follow.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        return bits[: self._n_vocabulary].astype(np.bool_)

    def take(self, token: int) -> None:
        """Go on by a token that was drawn.

        Raises:
            InputError: The grammar has become too complex to follow.
        """
        self._matcher.consume_token(token)
        self._check()

    @property
    def is_complete(self) -> bool:
        """Whether the text matches and can only end."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _bad("constraint", self._matcher.get_error())
