"""The distributions of DreamerV3's states and values: categorical latents, two-hot numbers. Noise is passed in."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from worldflux.blocks import one_hot, symexp, unimix_probs

# -- categorical latents ----------------------------------------------------------------------------------------------


def unimix_log_probs(logits: Tensor, unimix: float) -> Tensor:
    """Logarithm of ``unimix_probs``."""
    if unimix:
        return torch.log(unimix_probs(logits, unimix))
    return torch.log_softmax(logits.float(), -1)


def draw(probs: Tensor, uniform: Tensor) -> Tensor:
    """Indices ``[...]`` drawn from ``probs [..., C]`` by inverting the distribution at ``uniform [...]`` in [0, 1)."""
    cumulated = probs.cumsum(-1)
    return (cumulated[..., :-1] <= (uniform * cumulated[..., -1]).unsqueeze(-1)).sum(-1)


def sample_latent(logits: Tensor, unimix: float, uniform: Tensor | None) -> Tensor:
    """One-hot latents ``[..., S, C]`` with straight-through gradients; the mode where ``uniform`` is None."""
    probs = unimix_probs(logits, unimix)
    index = probs.argmax(-1) if uniform is None else draw(probs.detach(), uniform)
    return one_hot(index, logits.shape[-1]) + (probs - probs.detach())


# -- two-hot ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def symexp_bins(count: int, device: torch.device | None = None) -> Tensor:
    """``count`` values, symmetric about zero, exponentially spaced up to ``e^20 - 1``."""
    if count % 2:
        half = symexp(torch.linspace(-20, 0, (count - 1) // 2 + 1, device=device))
        return torch.cat([half, -half[:-1].flip(0)])
    half = symexp(torch.linspace(-20, 0, count // 2, device=device))
    return torch.cat([half, -half.flip(0)])


def two_hot(target: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and weights ``[..., 2]`` of the two bins around ``target [...]``, interpolating between their values."""
    last = len(bins) - 1
    above = torch.searchsorted(bins, target.contiguous(), right=True)
    below = (above - 1).clamp(0, last)
    above = above.clamp(max=last)
    equal = below == above
    under = torch.where(equal, 1.0, (bins[below] - target).abs())
    over = torch.where(equal, 1.0, (bins[above] - target).abs())
    total = under + over
    return torch.stack([below, above], -1), torch.stack([over / total, under / total], -1)


class _TwoHotLoss(torch.autograd.Function):
    """Cross entropy with a sum of two-hot targets, without ever building the targets."""

    @staticmethod
    def forward(ctx, logits: Tensor, probs: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        mass = weight.sum(-1)
        lse = logits.amax(-1) - probs.amax(-1).log()  # half the passes of logsumexp, as the softmax is there already
        ctx.save_for_backward(probs, index, weight, mass)
        return mass * lse - (weight * logits.gather(-1, index)).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        probs, index, weight, mass = ctx.saved_tensors
        out = probs * (grad * mass).unsqueeze(-1)
        return out.scatter_add_(-1, index, -grad.unsqueeze(-1) * weight), None, None, None


class TwoHot:
    """A categorical over exponentially spaced values: its mean, and its cross entropy with a number.

    ``logits [..., N]``. Source: Hafner et al. 2023 (symexp two-hot); the mean sums symmetric pairs of bins so that
    uniform logits give exactly zero.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()
        self.bins = symexp_bins(logits.shape[-1], logits.device)
        self.probs = torch.softmax(self.logits.detach(), -1)

    def __getitem__(self, index: int | slice | tuple[slice, ...]) -> TwoHot:
        """The distributions at ``index`` of the leading axes."""
        part = object.__new__(TwoHot)
        part.logits, part.bins, part.probs = self.logits[index], self.bins, self.probs[index]
        return part

    def pred(self) -> Tensor:
        """Expected value ``[...]``."""
        wants_grad = self.logits.requires_grad and torch.is_grad_enabled()
        probs = torch.softmax(self.logits, -1) if wants_grad else self.probs
        count = self.bins.shape[0]
        low, high = probs[..., : count // 2], probs[..., (count + 1) // 2 :]
        return (high - low.flip(-1)) @ self.bins[(count + 1) // 2 :]

    def loss(self, *targets: Tensor, weights: tuple[float, ...] = (1.0,)) -> Tensor:
        """Weighted sum ``[...]`` of the cross entropies with each of ``targets [...]``, which get no gradient."""
        pairs = [two_hot(target.detach(), self.bins) for target in targets]
        index = torch.cat([index for index, _ in pairs], -1)
        weight = torch.cat([scale * weight for scale, (_, weight) in zip(weights, pairs)], -1)
        return _TwoHotLoss.apply(self.logits, self.probs, index, weight)
