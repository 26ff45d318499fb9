"""Rows about the fact tables: questions, yes or no, choices, follow-ups and short portraits."""

from __future__ import annotations

from functools import cache
from random import Random

from recipes.tiny_base.rows import Message, Row, assistant, pair, row, user
from recipes.tiny_base.tables import (
    Fact,
    Relation,
    all_facts,
    answer_fields,
    article,
    fields,
    fill,
    plural,
    relation,
    relations,
    sentence,
    wrong_facts,
)
from recipes.tiny_base.wording import dress, indirect, normal

_FOLLOW = ("And {}?", "What about {}?", "How about {}?", "And what about {}?", "and {}")
_COMPLETE = (
    "Complete the sentence: {}",
    "Complete: {}",
    "Fill in the end: {}",
    "How does this sentence end? {}",
    "Go on: {}",
)
_BARE = frozenset({"{p} {v}.", "{a} {v}.", "{s} {v}.", "{a} is {v}."})
_CHOICE = (
    "Which of these is {}: {}?",
    "Which one is {}: {}?",
    "Which word is {}: {}?",
    "Find the one that is {}: {}.",
    "One of these is {}. Which one? {}",
    "Choose the one that is {}: {}",
    "What is {} here: {}?",
    "Pick the one that is {}: {}.",
)
_PORTRAIT = (
    "Tell me about {}.",
    "What do you know about {}?",
    "Tell me something about {}.",
    "Write a few sentences about {}.",
    "Say something about {}.",
    "Describe {} in a few sentences.",
    "What can you tell me about {}?",
)
_PORTRAIT_WORDS = frozenset({"they", "are", "have", "live", "in", "on", "the", "a", "and", "of"})
_KIND_TABLES = ("food_kind", "kind_of", "animal_class")


def pick(rng: Random) -> tuple[Relation, Fact]:
    """Draw one fact, every fact with the same chance."""
    return rng.choice(all_facts())


def question(rng: Random, rel: Relation, fact: Fact) -> str:
    """Ask for a fact in one of the trained wordings."""
    words = answer_fields(rel, fact)
    if rng.random() < 0.28:
        return indirect(rng, rng.choice(rel.know).format_map(words))
    return dress(rng, fill(rng.choice(rel.ask), words))


def answer(rng: Random, rel: Relation, fact: Fact) -> str:
    """Answer with a fact, mostly in its first form."""
    say = rel.say[0] if rng.random() < 0.75 else rng.choice(rel.say)
    return fill(say, answer_fields(rel, fact))


def fact_row(rng: Random) -> Row:
    """One question and its answer."""
    rel, fact = pick(rng)
    if rng.random() < 0.08 and _can_complete(rel):
        return _complete_row(rng, rel, fact)
    return pair("fact", question(rng, rel, fact), answer(rng, rel, fact))


def _can_complete(rel: Relation) -> bool:
    """Say whether the start of the answer shows what is asked; "Cows ..." alone does not."""
    say = rel.say[0]
    return say.endswith("{v}.") and not rel.inverse and say not in _BARE


def _complete_row(rng: Random, rel: Relation, fact: Fact) -> Row:
    whole = fill(rel.say[0], answer_fields(rel, fact))
    start = whole[: -len(fact.value) - 1].rstrip()
    ending = rng.choice(("", " ...", " ___"))
    return pair("complete", rng.choice(_COMPLETE).format(start + ending), whole)


def _short_name(rel: Relation, fact: Fact) -> str:
    if rel.inverse:
        return fact.value
    return answer_fields(rel, fact)["a"]


def _can_follow(rel: Relation) -> bool:
    return not rel.inverse and rel.name not in {"unit_count", "season_event", "feel_when"}


@cache
def _follow_relations() -> tuple[tuple[Relation, ...], tuple[int, ...]]:
    usable = tuple(rel for rel in relations() if _can_follow(rel) and len(rel.facts) > 2)
    return usable, tuple(len(rel.facts) for rel in usable)


def follow_row(rng: Random) -> Row:
    """A question, then "and a cow?" once or twice."""
    usable, weights = _follow_relations()
    rel = rng.choices(usable, weights)[0]
    first, *others = rng.sample(rel.facts, rng.choice((2, 2, 3)))
    messages: list[Message] = [user(question(rng, rel, first)), assistant(answer(rng, rel, first))]
    for other in others:
        messages += [
            user(rng.choice(_FOLLOW).format(_short_name(rel, other))),
            assistant(answer(rng, rel, other)),
        ]
    return row("follow", *messages)


@cache
def _checks() -> tuple[tuple[Relation, Fact], ...]:
    return tuple(item for item in all_facts() if item[0].check)


def check_row(rng: Random) -> Row:
    """A yes-no question, yes and no about as often."""
    rel, fact = rng.choice(_checks())
    others = wrong_facts(rel, fact)
    if rng.random() < 0.5 or not others:
        shown, verdict = fact.value, rel.yes
    else:
        shown, verdict = rng.choice(others).value, rel.no
    words = fields(rel, fact.subject, fact.value, shown)
    asked = fill(rel.check, words)
    chance = rng.random()
    if chance < 0.15:
        asked = f"Is it true? {asked}"
    elif chance < 0.25:
        asked = f"Yes or no: {asked[0].lower()}{asked[1:]}"
    return pair("check", dress(rng, asked), fill(verdict, words))


def choice_row(rng: Random) -> Row:
    """Pick the one thing of a kind from a short list."""
    rel = relation(rng.choice(_KIND_TABLES))
    fact = rng.choice(rel.facts)
    others = wrong_facts(rel, fact)
    wrong = []
    for other in rng.sample(others, min(len(others), rng.choice((1, 2, 2, 3)))):
        same = [item for item in rel.facts if item.value == other.value]
        wrong.append(rng.choice(same).subject)
    shown = [fact.subject, *wrong]
    rng.shuffle(shown)
    last = rng.choice((", ", ", ", " or "))
    listed = ", ".join(shown[:-1]) + last + shown[-1]
    asked = rng.choice(_CHOICE).format(article(fact.value), listed)
    said = f"{sentence(article(fact.subject))} is {article(fact.value)}."
    return pair("choice", dress(rng, asked), said)


@cache
def _portraits() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Collect what the tables say about each animal."""
    about: dict[str, list[str]] = {}
    for rel in relations():
        for fact in rel.facts if rel.they else ():
            words = answer_fields(rel, fact)
            about.setdefault(fact.subject, []).append(fill(rel.they, words))
    return tuple((animal, tuple(said)) for animal, said in about.items() if len(said) > 2)


def _new(text: str, said: list[str]) -> bool:
    """Say whether a sentence tells something that the others do not tell yet."""
    words = set(normal(text).split()) - _PORTRAIT_WORDS
    return not any(words & set(normal(other).split()) for other in said)


def portrait_row(rng: Random) -> Row:
    """A few sentences about one animal, made of its facts."""
    animal, said = rng.choice(_portraits())
    kind = next((text for text in said if text.startswith("They are")), "")
    rest = [text for text in dict.fromkeys(said) if text != kind]
    # "They are mammals." is the natural first sentence.
    sentences = [kind] if kind else []
    size = len(sentences) + rng.choice((2, 3, 3))
    for text in rng.sample(rest, len(rest)):
        if len(sentences) < size and _new(text, sentences):
            sentences.append(text)
    sentences[0] = sentences[0].replace("They", sentence(plural(animal)), 1)
    name = rng.choice((plural(animal), article(animal)))
    return pair("portrait", dress(rng, rng.choice(_PORTRAIT).format(name)), " ".join(sentences))
