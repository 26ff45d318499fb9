"""Load the fact tables and the question frames, and fill one with the other."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# What the package ships for measuring and preventing forgetting.
GENERAL = HERE.parents[1] / "src" / "tunefork" / "evaluation" / "general"
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_WORD = re.compile(r"[a-z0-9]+")
# Words too common to make two answers look alike.
_PLAIN = frozenset({"with", "from", "that", "your", "very", "people", "things", "after"})

Fields = dict[str, str]


def load_toml(name: str) -> dict[str, Any]:
    """Read one TOML file of this folder."""
    return tomllib.loads((HERE / name).read_text(encoding="utf-8"))


@dataclass(frozen=True, eq=False)
class Fact:
    """One subject with its right answers; the first answer is the one taught."""

    id: str
    subject: str
    values: tuple[str, ...]

    @property
    def value(self) -> str:
        """The answer that is taught."""
        return self.values[0]


@dataclass(frozen=True, eq=False)
class Relation:
    """A kind of fact with all its wordings."""

    name: str
    raw: bool
    inverse: bool
    ask: tuple[str, ...]
    know: tuple[str, ...]
    held: tuple[str, ...]
    say: tuple[str, ...]
    check: str
    yes: str
    no: str
    they: str
    alike: tuple[frozenset[str], ...]
    facts: tuple[Fact, ...]


def expand(template: str) -> list[str]:
    """Write out every form of a template with ``(x|y)`` choices."""
    parts = _CHOICE.split(template)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return [re.sub(r" +([?.,]|$)", r"\1", "".join(form)) for form in itertools.product(*choices)]


def expand_all(templates: Iterable[str]) -> tuple[str, ...]:
    """Write out every form of every template, once each."""
    return tuple(dict.fromkeys(form for item in templates for form in expand(item)))


@cache
def _nouns() -> dict[str, Any]:
    nouns = load_toml("pools/nouns.toml")
    return {**nouns, "mass": frozenset(nouns["mass"])}


@cache
def indefinite(noun: str) -> str:
    """Choose "a" or "an" by the first sound of a noun."""
    nouns = _nouns()
    first = noun.split()[0]
    vowel = noun[0] in "aeiou" and first not in nouns["a_before_vowel"]
    return "an" if vowel or first in nouns["an_before_consonant"] else "a"


@cache
def article(noun: str) -> str:
    """Put "a" or "an" before a noun that takes one."""
    first = noun.split()[0]
    if noun in _nouns()["mass"] or first in {"a", "an", "the", "your"} or noun[0].isupper():
        return noun
    return f"{indefinite(noun)} {noun}"


@cache
def plural(noun: str) -> str:
    """Give the plural of a noun that has one."""
    nouns = _nouns()
    if noun in nouns["plurals"]:
        return str(nouns["plurals"][noun])
    if noun in nouns["mass"] or noun.split()[0] in {"a", "an", "the"}:
        return noun
    *before, last = noun.split(" ")
    if last in nouns["plurals"]:
        last = nouns["plurals"][last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return " ".join([*before, last])


def fields(relation: Relation, subject: str, value: str, wrong: str = "") -> Fields:
    """Give the words that fill the placeholders of a relation's frames."""
    head, _, tail = subject.partition(" | ")
    filled = {"s": head, "v": value, "av": article(value), "vp": plural(value)}
    filled["a"], filled["p"] = (head, head) if relation.raw else (article(head), plural(head))
    if tail:
        filled["t"], filled["at"] = tail, article(tail)
    if wrong:
        filled["w"], filled["aw"] = wrong, article(wrong)
    noun = "wheels" if relation.name == "vehicle_wheels" else head
    filled["n"] = noun[:-1] if value == "one" else noun
    return filled


def sentence(text: str) -> str:
    """Start a text with a capital letter."""
    return text[:1].upper() + text[1:]


def fill(template: str, words: Fields) -> str:
    """Fill a frame and write it as a sentence, capitals after each full stop included."""
    text = template.format_map(words)
    return ". ".join(sentence(part) for part in text.split(". "))


def answer_fields(relation: Relation, fact: Fact, other: Fact | None = None) -> Fields:
    """Fill the answer to ``fact`` with its own answer, or with the one of ``other``."""
    source = other or fact
    if relation.inverse:
        return fields(relation, source.subject, fact.value)
    return fields(relation, fact.subject, source.value)


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if len(word) > 3} - _PLAIN


def _alike(relation: Relation, first: str, second: str) -> bool:
    if first == second or _words(first) & _words(second):
        return True
    return any(first in group and second in group for group in relation.alike)


@cache
def wrong_facts(relation: Relation, fact: Fact) -> tuple[Fact, ...]:
    """Give the facts whose answer is surely wrong for ``fact``, one per answer."""
    found: dict[str, Fact] = {}
    for other in relation.facts:
        if other.subject == fact.subject:
            continue
        mine, theirs = fact.values, other.values
        if relation.inverse:
            mine, theirs = (fact.value,), other.values
        else:
            theirs = (other.value,)
        if not any(_alike(relation, left, right) for left in mine for right in theirs):
            found.setdefault(other.subject if relation.inverse else other.value, other)
    return tuple(found.values())


def _facts(name: str, table: dict[str, str]) -> tuple[Fact, ...]:
    return tuple(
        Fact(f"{name}/{subject}", subject, tuple(values.split(" | ")))
        for subject, values in table.items()
    )


def _relation(name: str, frame: dict[str, Any], facts: tuple[Fact, ...], raw: bool) -> Relation:
    return Relation(
        name=name,
        raw=raw,
        inverse=name.endswith(".inverse"),
        ask=expand_all(frame["ask"]),
        know=expand_all(frame["know"]),
        held=expand_all(frame["held"]),
        say=tuple(frame["say"]),
        check=frame.get("check", ""),
        yes=frame.get("yes", ""),
        no=frame.get("no", ""),
        they=frame.get("they", ""),
        alike=tuple(frozenset(group) for group in frame.get("alike", [])),
        facts=facts,
    )


@cache
def relations() -> tuple[Relation, ...]:
    """Load every relation; an inverse one holds only the facts whose answer is unique."""
    tables: dict[str, dict[str, str]] = {}
    for path in sorted((HERE / "knowledge").glob("*.toml")):
        tables.update(load_toml(f"knowledge/{path.name}"))
    loaded = []
    for name, frame in load_toml("frames.toml").items():
        raw = bool(frame.get("raw", False))
        facts = _facts(name, tables[name])
        loaded.append(_relation(name, frame, facts, raw))
        if "inverse" in frame:
            seen = Counter(fact.value for fact in facts)
            unique = tuple(fact for fact in facts if seen[fact.value] == 1)
            inverse = {"alike": frame.get("alike", []), **frame["inverse"]}
            loaded.append(_relation(f"{name}.inverse", inverse, unique, raw))
    return tuple(loaded)


@cache
def relation(name: str) -> Relation:
    """Find one relation by name."""
    return next(item for item in relations() if item.name == name)


@cache
def all_facts() -> tuple[tuple[Relation, Fact], ...]:
    """List every fact with its relation."""
    return tuple((rel, fact) for rel in relations() for fact in rel.facts)


def accepted(rel: Relation, fact: Fact) -> list[str]:
    """List the words that show an answer to ``fact`` is right."""
    if not rel.inverse:
        return list(fact.values)
    found = [
        other.subject.partition(" | ")[0]
        for other in rel.facts
        if other is fact or fact.value in other.values
    ]
    forms = found if rel.raw else [form for noun in found for form in (noun, plural(noun))]
    return list(dict.fromkeys(forms))
