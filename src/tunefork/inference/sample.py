"""Draw tokens by chance: each row from its own probabilities and its own random number."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_LIKELIEST = 1024  # are looked at first: sorting a whole vocabulary is slow


def sample(logits: torch.Tensor, top_p: Sequence[float], chances: Sequence[float]) -> list[int]:
    """Return for each row the token at a chance of its summed probabilities.

    What a row gets depends on nothing but itself.

    Args:
        logits: (rows, vocabulary), float32, divided by the temperature.
        top_p: For each row; only the likeliest tokens that reach it may come (nucleus sampling,
            Holtzman et al. 2019, arXiv 1904.09751).
        chances: For each row, from 0 to below 1.
    """
    probabilities = torch.softmax(logits, dim=-1)
    whole = [at for at, share in enumerate(top_p) if share >= 1]
    if len(whole) == len(top_p):
        return _at(probabilities, chances).tolist()
    found = [0] * len(top_p)
    if whole:
        tokens = _at(probabilities[whole], [chances[at] for at in whole]).tolist()
        for at, token in zip(whole, tokens, strict=True):
            found[at] = token
    for at in range(len(top_p)):
        if top_p[at] < 1:
            found[at] = _of_nucleus(probabilities[at], top_p[at], chances[at])
    return found


def _of_nucleus(probabilities: torch.Tensor, top_p: float, chance: float) -> int:
    likeliest, tokens = probabilities.topk(min(_LIKELIEST, len(probabilities)))
    if float(likeliest.sum()) < top_p:
        likeliest, tokens = probabilities.sort(descending=True)
    # Keep the smallest set whose probability reaches top_p: a token goes when those before it do.
    kept = likeliest * ((likeliest.cumsum(0) - likeliest) < top_p)
    return int(tokens[_at(kept.unsqueeze(0), [chance])])


def _at(probabilities: torch.Tensor, chances: Sequence[float]) -> torch.Tensor:
    """Return where the summed probabilities of each row pass its chance of their sum: (rows,)."""
    sums = probabilities.cumsum(-1, dtype=torch.float64)
    wanted = torch.tensor(chances, dtype=torch.float64, device=sums.device).unsqueeze(1)
    places = torch.searchsorted(sums, wanted * sums[:, -1:], right=True).squeeze(1)
    last = torch.count_nonzero(sums < sums[:, -1:], dim=-1)  # that has any probability
    return torch.minimum(places, last)
