"""Learning from rewards, as pure functions of tensors: tensors in, tensors out.

Throughout, a policy has drawn answers o to a prompt q, token by token, and each answer has a reward
R. `pi` is the model in training, `old` what it was when it drew, `ref` its base. Nothing here knows
of models or batches; `tests/objectives` holds each against the formula, and against TRL where TRL
has it.
"""

from __future__ import annotations

import torch

_LEAST_SPREAD = 1e-4  # added to the standard deviation of rewards, as TRL does


def policy_losses(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -min(r A, clip(r, 1 - e_low, 1 + e_high) A), and where the clip decides.

    Proximal policy optimization, equation 7 of Schulman et al. 2017 (arXiv 1707.06347), with the
    upper end apart from the lower one as DAPO has it (Yu et al. 2025, arXiv 2503.14476).

    Args:
        log_probs: ln pi(o_t | q, o_<t), (tokens,).
        old_log_probs: The same of `old`, (tokens,); r = pi / old.
        advantages: A, (tokens,).
        clip_low: e_low.
        clip_high: e_high.

    Returns:
        Losses, (tokens,), and 1 where a token's gradient is cut off, (tokens,).
    """
    ratios = torch.exp(log_probs - old_log_probs)
    clipped = ratios.clamp(1 - clip_low, 1 + clip_high)
    is_cut = (ratios.detach() * advantages > clipped.detach() * advantages).float()
    return -torch.minimum(ratios * advantages, clipped * advantages), is_cut


def divergences(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return ref/pi - ln(ref/pi) - 1 for each token: (tokens,).

    The estimate k3 of KL(pi || ref) by Schulman 2020 ("Approximating KL divergence"), which is
    unbiased where pi drew the tokens and never below 0; equation 4 of Shao et al. 2024 (GRPO,
    arXiv 2402.03300).

    Args:
        log_probs: ln pi(o_t | q, o_<t), (tokens,).
        reference: The same of `ref`, (tokens,).
    """
    difference = reference - log_probs
    return torch.exp(difference) - difference - 1


def group_advantages(rewards: torch.Tensor, *, divides: bool) -> torch.Tensor:
    """Return (R - mean R) / (std R + 1e-4) over the answers to one prompt: (answers,).

    Equation 3 of Shao et al. 2024 (arXiv 2402.03300). Without the division, which makes prompts
    count more where rewards hardly differ, it is that of Dr. GRPO (Liu et al. 2025, arXiv
    2503.20783).

    Args:
        rewards: (answers,), two at least.
        divides: Whether to divide by the standard deviation.
    """
    centred = rewards - rewards.mean()
    return centred / (rewards.std() + _LEAST_SPREAD) if divides else centred


def general_advantages(
    rewards: torch.Tensor, values: torch.Tensor, *, discount: float, trace: float
) -> torch.Tensor:
    """Return the sum over k of (g l)^k d_(t+k), d_t = R_t + g V_(t+1) - V_t, for one answer.

    Generalized advantage estimation, equation 16 of Schulman et al. 2016 (arXiv 1506.02438); behind
    the last token V is 0.

    Args:
        rewards: R_t, (tokens,).
        values: V_t, what was expected before token t, (tokens,).
        discount: g.
        trace: l.

    Returns:
        (tokens,).
    """
    found = torch.empty_like(rewards)
    following, after = 0.0, 0.0  # the advantage and the value of the token behind
    for at in range(len(rewards) - 1, -1, -1):
        following = float(rewards[at]) + discount * (after + trace * following) - float(values[at])
        found[at], after = following, float(values[at])
    return found


def value_losses(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, clip: float
) -> torch.Tensor:
    """Return max((V - G)^2, (clip(V, V_old - c, V_old + c) - G)^2) / 2: (tokens,).

    The clipped objective for values of PPO's authors' own code ("baselines"; Engstrom et al. 2020,
    arXiv 2005.12729, section 3).

    Args:
        values: V, (tokens,).
        old_values: V_old, as they were when the answers were drawn, (tokens,).
        returns: G = A + V_old, (tokens,).
        clip: c.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2


def next_coefficient(coefficient: float, divergence: float, target: float) -> float:
    """Return b (1 + clip(KL / target - 1, -0.2, 0.2) / 10).

    The adaptive coefficient of Ziegler et al. 2019 (arXiv 1909.08593), section 2.2.

    Args:
        coefficient: b, of the penalty on the divergence.
        divergence: KL(pi || ref), in nats per answer.
        target: What it should be.
    """
    error = min(0.2, max(-0.2, divergence / target - 1))
    return coefficient * (1 + error / 10)
