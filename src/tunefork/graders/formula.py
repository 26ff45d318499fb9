"""Formulas over named numbers, as `multi` has them: `0.9 * right + 0.1 * min(short, polite)`.

Known are `+ - * / ^`, brackets, numbers, names, and `min max abs floor ceil exp sqrt log`. The
formula is read by a small parser and never run as a program. Entry point: `parse_formula`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunefork.core.errors import did_you_mean

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)|(?P<sign>[-+*/^(),]))"
)
_MOST_TOKENS = 200  # brackets nest in Python's own stack

Values = Mapping[str, float]
_Node = Callable[[Values], float]

_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}
_OF_MANY = ("max", "min")


@dataclass(frozen=True)
class Formula:
    """A formula that has been read.

    Attributes:
        text: As its author wrote it.
        names: What it needs a number for.
    """

    text: str
    names: frozenset[str]
    _node: _Node

    def value(self, values: Values) -> float:
        """Return the value, a finite number.

        Raises:
            ValueError: There is none: a division by zero, a root of a negative number.
        """
        try:
            value = float(self._node(values))
        except (ArithmeticError, ValueError, RecursionError) as error:
            raise ValueError(f"`{self.text}` has no value here: {error}") from error
        if not math.isfinite(value):
            raise ValueError(f"`{self.text}` has no finite value here")
        return value


def parse_formula(text: str, known: list[str]) -> Formula:
    """Read a formula over known names.

    Raises:
        ValueError: It is no formula, or has a name that is not known.
    """
    parser = _Parser(_tokens(text), known)
    try:
        node = parser.sum()
    except RecursionError as error:
        raise ValueError("its brackets nest too deeply") from error
    if parser.next():
        raise ValueError(f"`{parser.next()}` is not expected there")
    return Formula(text, frozenset(parser.names), node)


def _tokens(text: str) -> list[str]:
    tokens, place = [], 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"`{text[place:].strip()[0]}` is not known in a formula")
        tokens.append(match.group().strip())
        place = match.end()
    if len(tokens) > _MOST_TOKENS:
        raise ValueError(f"it is longer than {_MOST_TOKENS} numbers, names and signs")
    return tokens


class _Parser:
    """Reads tokens from left to right; one method per level of binding."""

    def __init__(self, tokens: list[str], known: list[str]) -> None:
        self.tokens = tokens[::-1]
        self.known = known
        self.names: set[str] = set()

    def next(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def sum(self) -> _Node:
        node = self.product()
        while self.next() in ("+", "-"):
            node = _binary(self.tokens.pop(), node, self.product())
        return node

    def product(self) -> _Node:
        node = self.signed()
        while self.next() in ("*", "/"):
            node = _binary(self.tokens.pop(), node, self.signed())
        return node

    def signed(self) -> _Node:
        if self.next() in ("+", "-"):
            sign = self.tokens.pop()
            return _binary(sign, lambda values: 0.0, self.signed())
        return self.power()

    def power(self) -> _Node:
        base = self.atom()
        if self.next() != "^":
            return base
        return _binary(self.tokens.pop(), base, self.signed())  # 2^3^2 is 2^(3^2)

    def atom(self) -> _Node:
        token = self.tokens.pop() if self.tokens else ""
        if token == "(":
            node = self.sum()
            self.expect(")")
            return node
        if token and (token[0].isdigit() or token[0] == "."):
            number = float(token)
            return lambda values: number
        if token.isidentifier():
            return self.call(token) if self.next() == "(" else self.name(token)
        raise ValueError(f"`{token}` is not expected there" if token else "it ends too early")

    def name(self, name: str) -> _Node:
        if name not in self.known:
            hint = did_you_mean(name, [*self.known, *_FUNCTIONS])
            raise ValueError(f"no grader is called `{name}`" + (f"; {hint}" if hint else ""))
        self.names.add(name)
        return lambda values: values[name]

    def call(self, name: str) -> _Node:
        if name not in _FUNCTIONS:
            raise ValueError(f"unknown function `{name}`: known are {', '.join(_FUNCTIONS)}")
        self.tokens.pop()
        arguments = [self.sum()]
        while self.next() == ",":
            self.tokens.pop()
            arguments.append(self.sum())
        self.expect(")")
        if (len(arguments) == 1) == (name in _OF_MANY):
            wanted = "two or more numbers" if name in _OF_MANY else "one number"
            raise ValueError(f"`{name}` takes {wanted}")
        function = _FUNCTIONS[name]
        return lambda values: function(*(argument(values) for argument in arguments))

    def expect(self, sign: str) -> None:
        if self.next() != sign:
            raise ValueError(f"a `{sign}` is missing")
        self.tokens.pop()


def _binary(sign: str, left: _Node, right: _Node) -> _Node:
    if sign == "+":
        return lambda values: left(values) + right(values)
    if sign == "-":
        return lambda values: left(values) - right(values)
    if sign == "*":
        return lambda values: left(values) * right(values)
    if sign == "/":
        return lambda values: left(values) / right(values)
    return lambda values: math.pow(left(values), right(values))
