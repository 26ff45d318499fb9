"""The losses of preferences, as pure functions of log-probabilities: tensors in, tensors out.

Throughout, `y_w` is the better answer to x and `y_l` the worse one; pi is the model in training and
`ref` its base. Nothing here knows of models or batches; `tests/objectives` holds each against the
formula, and against TRL where TRL has it.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def dpo_losses(margins: torch.Tensor, *, beta: float, label_smoothing: float = 0.0) -> torch.Tensor:
    """Return -(1 - e) ln sigma(beta m) - e ln sigma(-beta m) for each pair: (pairs,).

    Direct preference optimization, equation 7 of Rafailov et al. 2023 (arXiv 2305.18290). With
    label smoothing e it is the conservative form of Mitchell 2023 ("A note on DPO with noisy
    preferences and relationship to IPO"), for labels that are wrong with probability e.

    Args:
        margins: m = ln pi(y_w|x)/ref(y_w|x) - ln pi(y_l|x)/ref(y_l|x), (pairs,). Where each of
            the two ratios is divided by its answer's length, this is the length-normalised form
            that Meng et al. 2024 (arXiv 2405.14734) compare with.
        beta: How strongly to stay near the reference; more is nearer.
        label_smoothing: e, from 0 to below 0.5.
    """
    right, wrong = logsigmoid(beta * margins), logsigmoid(-beta * margins)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def ipo_losses(margins: torch.Tensor, *, beta: float) -> torch.Tensor:
    """Return (m - 1 / (2 beta))^2 for each pair: (pairs,).

    Identity preference optimization, equation 17 of Azar et al. 2023 (arXiv 2310.12036), where
    beta is called tau: unlike DPO it does not push a margin ever further.

    Args:
        margins: As in `dpo_losses`, of ratios per token: long answers would else have margins
            that no target suits. TRL divides likewise, on the authors' word.
        beta: tau; the margin sought is 1 / (2 tau).
    """
    return (margins - 1 / (2 * beta)) ** 2


def kto_losses(
    ratios: torch.Tensor,
    is_good: torch.Tensor,
    kl: torch.Tensor,
    *,
    beta: float,
    good_weight: float = 1.0,
    bad_weight: float = 1.0,
) -> torch.Tensor:
    """Return w_good (1 - sigma(beta (r - z))) or w_bad (1 - sigma(beta (z - r))): (rows,).

    Kahneman-Tversky optimization, Ethayarajh et al. 2024 (arXiv 2402.01306).

    Args:
        ratios: r = ln pi(y|x)/ref(y|x), (rows,).
        is_good: 1 where the answer is good, else 0, (rows,).
        kl: z, the divergence from the reference that gains and losses are measured from; scalar,
            through which nothing is learned. See `kto_divergence`.
        beta: How strongly to stay near the reference.
        good_weight: lambda_D. The paper wants w_good n_good : w_bad n_bad from 1 : 1 to 4 : 3.
        bad_weight: lambda_U.
    """
    signs = 2 * is_good - 1
    weights = good_weight * is_good + bad_weight * (1 - is_good)
    return weights * (1 - torch.sigmoid(beta * signs * (ratios - kl)))


def kto_divergence(ratios: torch.Tensor) -> torch.Tensor:
    """Return max(0, mean of ln pi(y'|x)/ref(y'|x)), without gradient: scalar.

    The estimate of KL(pi || ref) that arXiv 2402.01306 uses: biased, and cheap, since no answer has
    to be sampled.

    Args:
        ratios: Of answers y' to other questions, (rows,).
    """
    return ratios.detach().mean().clamp(min=0)


def orpo_losses(
    chosen_means: torch.Tensor, rejected_means: torch.Tensor, *, weight: float
) -> torch.Tensor:
    """Return -ln P(y_w|x) - weight ln sigma(ln odds(y_w|x) / odds(y_l|x)): (pairs,).

    Odds ratio preference optimization, equations 4 to 7 of Hong et al. 2024 (arXiv 2403.07691):
    odds(y|x) = P / (1 - P), where P is the geometric mean of the answer's token probabilities.
    There is no reference.

    Args:
        chosen_means: ln P(y_w|x), per token, (pairs,).
        rejected_means: ln P(y_l|x), per token, (pairs,).
        weight: lambda of equation 6.
    """
    log_odds = (chosen_means - _log_not(chosen_means)) - (rejected_means - _log_not(rejected_means))
    return -chosen_means - weight * logsigmoid(log_odds)


def simpo_losses(
    chosen_means: torch.Tensor, rejected_means: torch.Tensor, *, beta: float, margin: float
) -> torch.Tensor:
    """Return -ln sigma(beta ln P(y_w|x) - beta ln P(y_l|x) - margin): (pairs,).

    Simple preference optimization, equation 6 of Meng et al. 2024 (arXiv 2405.14734), where the
    margin is called gamma. There is no reference.

    Args:
        chosen_means: ln P(y_w|x), per token, (pairs,).
        rejected_means: ln P(y_l|x), per token, (pairs,).
        beta: How much a difference counts.
        margin: By how much the better answer should be ahead.
    """
    return -logsigmoid(beta * (chosen_means - rejected_means) - margin)


def _log_not(log_probability: torch.Tensor) -> torch.Tensor:
    """Return ln(1 - P), exact also where P is near 0 or near 1."""
    # P = 1 has no odds; float32 reaches it, and the next smaller number has finite ones.
    clipped = log_probability.clamp(max=-torch.finfo(torch.float32).eps)
    return torch.log(-torch.expm1(clipped))


def reward_losses(
    chosen: torch.Tensor, rejected: torch.Tensor, *, centre: float = 0.0
) -> torch.Tensor:
    """Return -ln sigma(r_w - r_l) + c (r_w + r_l)^2 for each pair: (pairs,).

    Bradley-Terry, as Ouyang et al. 2022 (arXiv 2203.02155) train reward models; only differences
    matter to it. The second term (Eisenstein et al. 2023, arXiv 2312.09244) holds rewards around
    zero, so that those of different prompts can be compared.

    Args:
        chosen: r_w, what the better answers are worth, (pairs,).
        rejected: r_l, the same of the worse ones, (pairs,).
        centre: c.
    """
    return -logsigmoid(chosen - rejected) + centre * (chosen + rejected) ** 2
