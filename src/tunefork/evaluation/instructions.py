"""Instructions that a program can check, as in IFEval.

Zhou et al., "Instruction-Following Evaluation for Large Language Models", 2023 (arXiv 2311.07911).
The checks are ours and follow the paper's wording. Languages are told for English alone, and of
the others only whether the letters fit, so `response_language` is not checked.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunefork.graders.content import sentences

Arguments = Mapping[str, Any]  # as the file has them
_Check = Callable[[str, Arguments], bool]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "at least": operator.ge,
    "less than": operator.lt,
    "at most": operator.le,
    "more than": operator.gt,
}
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def follows(answer: str, instructions: Sequence[str], arguments: Sequence[Arguments]) -> bool:
    """Say whether an answer follows all of some instructions; an empty one follows none."""
    pairs = zip(instructions, arguments, strict=True)
    return bool(answer.strip()) and all(_CHECKS[name](answer, given) for name, given in pairs)


def is_known(instruction: str) -> bool:
    """Say whether an instruction can be checked."""
    return instruction in _CHECKS


def _count(relation: object, found: int, wanted: object) -> bool:
    return _COMPARE[str(relation)](found, float(str(wanted)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _has(text: str, word: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", text, re.IGNORECASE))


def _paragraphs(text: str, between: str) -> list[str]:
    return [part for part in re.split(between, text) if part.strip()]


def _is_json(answer: str, _: Arguments) -> bool:
    text = answer.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _two_responses(answer: str, _: Arguments) -> bool:
    parts = _paragraphs(answer, r"\*{6}")
    return len(parts) == 2 and parts[0].strip() != parts[1].strip()


def _repeats(answer: str, given: Arguments) -> bool:
    return answer.strip().lower().startswith(str(given["prompt_to_repeat"]).strip().lower())


def _ends(answer: str, given: Arguments) -> bool:
    return answer.strip().strip('"').lower().endswith(str(given["end_phrase"]).strip().lower())


def _first_word(answer: str, given: Arguments) -> bool:
    parts = re.split(r"\n\n+", answer.strip())
    at = int(given["nth_paragraph"])
    if len(parts) != int(given["num_paragraphs"]) or not 0 < at <= len(parts):
        return False
    words = _words(parts[at - 1])
    return bool(words) and words[0].lower() == str(given["first_word"]).lower()


_CHECKS: dict[str, _Check] = {
    "punctuation:no_comma": lambda answer, _: "," not in answer,
    "length_constraints:number_words": lambda answer, given: _count(
        given["relation"], len(_words(answer)), given["num_words"]
    ),
    "length_constraints:number_sentences": lambda answer, given: _count(
        given["relation"], len(list(sentences(answer))), given["num_sentences"]
    ),
    "length_constraints:number_paragraphs": lambda answer, given: (
        len(_paragraphs(answer, r"\s?\*\*\*\s?")) == int(given["num_paragraphs"])
    ),
    "length_constraints:nth_paragraph_first_word": _first_word,
    "keywords:existence": lambda answer, given: all(_has(answer, w) for w in given["keywords"]),
    "keywords:forbidden_words": lambda answer, given: (
        not any(_has(answer, word) for word in given["forbidden_words"])
    ),
    "keywords:frequency": lambda answer, given: _count(
        given["relation"], _has(answer, given["keyword"]), given["frequency"]
    ),
    "keywords:letter_frequency": lambda answer, given: _count(
        given["let_relation"],
        answer.lower().count(str(given["letter"]).lower()),
        given["let_frequency"],
    ),
    "detectable_format:number_highlighted_sections": lambda answer, given: (
        len(re.findall(r"\*+[^\n*]+\*+", answer)) >= int(given["num_highlights"])
    ),
    "detectable_format:title": lambda answer, _: bool(re.search(r"<<[^\n<>]+>>", answer)),
    "detectable_format:number_bullet_lists": lambda answer, given: (
        len(re.findall(r"^[ \t]*[*-][ \t]+\S", answer, re.MULTILINE)) == int(given["num_bullets"])
    ),
    "detectable_format:json_format": _is_json,
    "detectable_format:multiple_sections": lambda answer, given: (
        len(re.findall(rf"{re.escape(given['section_spliter'].strip())}\s?\d+", answer))
        >= int(given["num_sections"])
    ),
    "detectable_format:constrained_response": lambda answer, _: any(
        option in answer for option in _OPTIONS
    ),
    "detectable_content:number_placeholders": lambda answer, given: (
        len(re.findall(r"\[[^\]]+\]", answer)) >= int(given["num_placeholders"])
    ),
    "detectable_content:postscript": lambda answer, given: (
        str(given["postscript_marker"]).lower().replace(" ", "") in answer.lower().replace(" ", "")
    ),
    "combination:repeat_prompt": _repeats,
    "combination:two_responses": _two_responses,
    "startend:end_checker": _ends,
    "startend:quotation": lambda answer, _: bool(re.fullmatch(r'".+"', answer.strip(), re.DOTALL)),
    "change_case:english_lowercase": lambda answer, _: answer.islower(),
    "change_case:english_capital": lambda answer, _: answer.isupper(),
    "change_case:capital_word_frequency": lambda answer, given: _count(
        given["capital_relation"],
        sum(word.isupper() for word in _words(answer)),
        given["capital_frequency"],
    ),
}
