"""How much two texts have in common, by the standard measures; each from 0 to 1.

Words are as in ROUGE: case folded, without punctuation, but for `bleu`, which keeps both. All
compare one answer with one reference.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from tunefork.graders.similarity import rouge_l, words

_MOST_CHARACTERS = 20_000
_ORDERS = 4


def fuzzy_match(answer: str, reference: str) -> float:
    """Return 2 L / (|answer| + |reference|), L the longest common subsequence of characters.

    That is RapidFuzz's `ratio`. The first 20,000 characters of each are compared.
    """
    from rapidfuzz.fuzz import ratio

    return ratio(answer[:_MOST_CHARACTERS], reference[:_MOST_CHARACTERS]) / 100


def bleu(answer: str, reference: str) -> float:
    """Return sacrebleu's BLEU of a sentence, with its default tokens and smoothing.

    Papineni et al., "BLEU", 2002; Post, "A Call for Clarity in Reporting BLEU Scores", 2018.
    Orders longer than the answer are left out.
    """
    from sacrebleu.metrics.bleu import BLEU

    # Rounding may end a hair above 100.
    return min(1.0, BLEU(effective_order=True).sentence_score(answer, [reference]).score / 100)


def gleu(answer: str, reference: str) -> float:
    """Return Google's GLEU: the lesser of precision and recall of all 1- to 4-grams.

    Wu et al., "Google's Neural Machine Translation System", 2016, section 6.
    """
    given, wanted = _all_grams(words(answer)), _all_grams(words(reference))
    most = max(given.total(), wanted.total())
    return (given & wanted).total() / most if most else 0.0


def meteor(answer: str, reference: str) -> float:
    """Return METEOR by equal words: 10 P R / (R + 9 P) * (1 - 0.5 (chunks / matches)^3).

    P and R are the shares of the answer's and the reference's words that are matched; a chunk
    is a run of matches that are neighbours in both. The k-th occurrence of a word matches the
    k-th. Stems and synonyms, which need a dictionary per language, are left out. Banerjee and
    Lavie, "METEOR", 2005.
    """
    given, wanted = words(answer), words(reference)
    places: dict[str, deque[int]] = defaultdict(deque)
    for place, word in enumerate(wanted):
        places[word].append(place)
    pairs = [(i, places[word].popleft()) for i, word in enumerate(given) if places[word]]
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(given), len(pairs) / len(wanted)
    steps = ((b[0] - a[0], b[1] - a[1]) for a, b in pairwise(pairs))
    n_chunks = 1 + sum(step != (1, 1) for step in steps)
    penalty = 0.5 * (n_chunks / len(pairs)) ** 3
    return 10 * precision * recall / (recall + 9 * precision) * (1 - penalty)


def rouge_n(answer: str, reference: str, n: int) -> float:
    """Return ROUGE-N's F1: the harmonic mean of precision and recall of the n-grams.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
    """
    given, wanted = _grams(words(answer), n), _grams(words(reference), n)
    n_all = given.total() + wanted.total()
    return 2 * (given & wanted).total() / n_all if n_all else 0.0


METRICS: dict[str, Callable[[str, str], float]] = {
    "bleu": bleu,
    "fuzzy_match": fuzzy_match,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": partial(rouge_n, n=n) for n in range(1, 6)},
    "rouge_l": rouge_l,
}


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _all_grams(tokens: Sequence[str]) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    for n in range(1, _ORDERS + 1):
        found += _grams(tokens, n)
    return found
