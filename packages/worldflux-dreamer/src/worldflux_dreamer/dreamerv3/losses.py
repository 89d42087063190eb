"""DreamerV3's losses as pure functions of tensors. B sequences, T steps, N imagined starts, L = H + 1 states."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from worldflux.blocks import symlog

from .distributions import TwoHot, unimix_log_probs


def averaged(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over rows ``[B, T]``, each by its weight (of mean one)."""
    return values.mean() if weight is None else (values * weight).mean()


# -- the world model --------------------------------------------------------------------------------------------------


def image_loss(mean: Tensor, target: Tensor) -> Tensor:
    """Squared error ``[...]`` of pixels in [0, 1] ``[..., C, H, W]``, summed; bytes are read as such pixels."""
    target = target if target.is_floating_point() else target.float() / 255
    return (mean - target).square().flatten(-3).sum(-1)


def vector_loss(mean: Tensor, target: Tensor, *, rank: int) -> Tensor:
    """Squared error with the target's symlog, summed over the ``rank`` event axes; no factor 1/2.

    A missing target (any entry -inf) costs nothing.
    """
    lead = target.ndim - rank
    target = target.float().reshape(*target.shape[:lead], -1)
    missing = target.isneginf().any(-1)
    error = mean.reshape(target.shape) - symlog(target.masked_fill(missing.unsqueeze(-1), 0.0))
    return error.square().sum(-1).masked_fill(missing, 0.0)


def binary_loss(logit: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of a logit with a target in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logit.float(), target, reduction="none")


def kl_divergence(post: Tensor, prior: Tensor, unimix: float) -> Tensor:
    """KL(post || prior) in nats ``[...]`` of raw logits ``[..., S, C]``, summed over the S latents."""
    log_post, log_prior = unimix_log_probs(post, unimix), unimix_log_probs(prior, unimix)
    return (log_post.exp() * (log_post - log_prior)).sum((-2, -1))


def entropy(logits: Tensor, unimix: float) -> Tensor:
    """Entropy in nats ``[...]`` of raw logits ``[..., S, C]``, summed over the latents."""
    log_probs = unimix_log_probs(logits, unimix)
    return -(log_probs.exp() * log_probs).sum((-2, -1))


def kl_losses(post: Tensor, prior: Tensor, *, unimix: float, free_nats: float) -> tuple[Tensor, Tensor]:
    """Dynamics and representation loss ``[...]``: the same divergence, one side of it held still in each.

    Source: Hafner et al. 2023, eq. 5 (free bits below ``free_nats``).
    """
    dyn = kl_divergence(post.detach(), prior, unimix)
    rep = kl_divergence(post, prior.detach(), unimix)
    if free_nats:
        dyn, rep = dyn.clamp(min=free_nats), rep.clamp(min=free_nats)
    return dyn, rep


def lambda_return(*, last: Tensor, term: Tensor, rew: Tensor, boot: Tensor, disc: float, lam: float) -> Tensor:
    """Lambda returns ``[N, L-1]`` of sequences ``[N, L]`` in the arrival convention.

    ``rew[t]`` was received on arriving at t; ``term`` (may be fractional) ends the return, ``last`` cuts the trace and
    bootstraps from ``boot``, the value of each state. Source: Hafner et al. 2023, eq. 7.
    """
    live = (1 - term[:, 1:]) * disc
    cont = (1 - last[:, 1:]) * lam
    rewards, values = rew[:, 1:], boot[:, 1:]
    interim = (rewards + (1 - cont) * live * values).unbind(1)
    carried = (live * cont).unbind(1)
    returns, ahead = [], boot[:, -1]
    for t in reversed(range(len(interim))):
        ahead = torch.addcmul(interim[t], carried[t], ahead)
        returns.append(ahead)
    return torch.stack(returns[::-1], 1)


def imagined_returns(
    *, rew: Tensor, con: Tensor, value: Tensor, contdisc: bool, horizon: int, lam: float
) -> tuple[Tensor, Tensor]:
    """Lambda returns ``[N, L-1]`` and weights ``[N, L]`` of imagined sequences.

    ``con`` is the predicted probability to go on; with ``contdisc`` it already carries the discount ``1 - 1/horizon``.
    A state's weight is the probability that the imagined episode still runs there.
    """
    disc = 1.0 if contdisc else 1 - 1 / horizon
    weight = torch.cumprod(disc * con, 1) / disc
    returns = lambda_return(last=torch.zeros_like(con), term=1 - con, rew=rew, boot=value, disc=disc, lam=lam)
    return returns, weight


def policy_loss(
    *, log_prob: Tensor, entropy: Tensor, advantage: Tensor, weight: Tensor, entropy_scale: float
) -> Tensor:
    """REINFORCE with an entropy bonus ``[N, L-1]``; only ``log_prob`` and ``entropy`` get gradients."""
    return weight.detach() * -(log_prob * advantage.detach() + entropy_scale * entropy)


def value_loss(value: TwoHot, slow: Tensor, *, returns: Tensor, weight: Tensor, slow_scale: float) -> Tensor:
    """Two-hot cross entropy ``[N, L-1]`` with the returns, and with the slow critic's prediction as a regulariser."""
    return weight.detach() * value.loss(returns, slow, weights=(1.0, slow_scale))


def replay_returns(*, last: Tensor, term: Tensor, rew: Tensor, boot: Tensor, horizon: int, lam: float) -> Tensor:
    """Lambda returns ``[B, T-1]`` along replayed sequences ``[B, T]``, bootstrapped from imagined returns ``boot``."""
    return lambda_return(last=last.float(), term=term.float(), rew=rew, boot=boot, disc=1 - 1 / horizon, lam=lam)
