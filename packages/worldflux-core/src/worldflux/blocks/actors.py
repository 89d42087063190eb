"""Actors: networks whose outputs are a distribution of actions. All randomness is drawn apart and passed in.

Both have ``noise``, ``act`` and ``sample``; ``mask [..., A]`` is 1 where an action exists and 0 where not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SquashedNormal(nn.Module):
    """A normal squashed by tanh, for continuous actions in [-1, 1].

    ``net`` gives ``[..., 2 A]``: means, and what becomes log deviations, which lie between ``low`` and ``high``: cut
    there, or ``smooth``, by a tanh that fills the range.

    Sources: Haarnoja et al. 2018 (SAC), appendix C; Hansen et al. 2024 (TD-MPC2) (``smooth``).
    """

    def __init__(self, net: nn.Module, size: int, *, low: float, high: float, smooth: bool = False) -> None:
        super().__init__()
        self.net, self.size, self.low, self.high, self.smooth = net, size, low, high, smooth

    def noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Standard normal numbers ``[*shape, A]``."""
        return torch.randn(*shape, self.size, generator=generator, device=device)

    def moments(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log deviation ``[..., A]`` before squashing, for features ``[..., D]``; both 0 where masked."""
        mean, raw = self.net(x).float().chunk(2, -1)
        if self.smooth:
            log_std = self.low + 0.5 * (self.high - self.low) * (raw.tanh() + 1)
        else:
            log_std = raw.clamp(self.low, self.high)
        return (mean, log_std) if mask is None else (mean * mask, log_std * mask)

    def act(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """Actions ``[..., A]`` for features ``[..., D]``; without noise the squashed mean."""
        mean, log_std = self.moments(x, mask)
        return torch.tanh(mean if noise is None else mean + log_std.exp() * _masked(noise, mask))

    def sample(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions ``[..., A]``, and minus the log of their density ``[...]``: the entropy in nats by one sample."""
        raw, density = self.draw(x, noise, mask)
        density = _masked(density - log_slope(raw), mask)
        return torch.tanh(raw), -density.sum(-1)

    def draw(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions before squashing, and the log of the density of each of their entries there, both ``[..., A]``."""
        mean, log_std = self.moments(x, mask)
        noise = torch.zeros_like(mean) if noise is None else _masked(noise, mask)
        return mean + log_std.exp() * noise, -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)


class CategoricalActor(nn.Module):
    """Probabilities of classes, for discrete actions; a sampled one-hot passes gradients on straight through.

    ``net`` gives logits ``[..., A]``.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net, self.size = net, size

    def noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Gumbel numbers ``[*shape, A]``: added to the logits, the largest is a sample."""
        drawn = torch.empty(*shape, self.size, device=device).exponential_(generator=generator)
        return -drawn.clamp_min(1e-20).log()

    def act(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """One-hot actions ``[..., A]`` for features ``[..., D]``; without noise the likeliest."""
        return self.sample(x, noise, mask)[0]

    def sample(self, x: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Actions ``[..., A]`` and their distribution's entropy ``[...]`` in nats; what is masked is never taken."""
        logits = self.net(x).float()
        if mask is not None:
            logits = logits.masked_fill(mask == 0, -1e9)
        logp = logits.log_softmax(-1)
        disturbed = logp if noise is None else logp + noise
        hot = F.one_hot(disturbed.argmax(-1), self.size).to(logp.dtype)
        soft = disturbed.softmax(-1)
        return hot + soft - soft.detach(), -(logp.exp() * logp).sum(-1)


def log_slope(raw: Tensor) -> Tensor:
    """``log(1 - tanh(raw)^2)`` elementwise, exactly where that is all but 0."""
    return 2 * (math.log(2) - raw - F.softplus(-2 * raw))


def _masked(value: Tensor, mask: Tensor | None) -> Tensor:
    return value if mask is None else value * mask
