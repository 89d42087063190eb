"""The actor: distributions over actions, of which one may have several parts; and the scale of what it is paid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from worldflux import ActionPart
from worldflux.blocks import one_hot, percentiles

from .config import DreamerV3Config
from .distributions import draw, unimix_log_probs
from .networks import MLP, Linear


class Categorical:
    """A choice among ``C`` actions, as one-hot vectors. The official actor has no unimix.

    Source: Hafner et al. 2023, "Mastering Diverse Domains through World Models"; danijar/dreamerv3 ``outs.py``.
    """

    def __init__(self, logits: Tensor, unimix: float = 0.0) -> None:
        self.logits = unimix_log_probs(logits, unimix)

    @property
    def mode(self) -> Tensor:
        """The likeliest action, one-hot ``[..., C]``."""
        return one_hot(self.logits.argmax(-1), self.logits.shape[-1])

    def sample(self, noise: Tensor) -> Tensor:
        """One-hot actions ``[..., C]`` by uniform noise ``[..., 1]`` in [0, 1)."""
        return one_hot(draw(self.logits.detach().exp(), noise[..., 0]), self.logits.shape[-1])

    def log_prob(self, action: Tensor) -> Tensor:
        """Log probability ``[...]`` of one-hot actions."""
        return (self.logits * action).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy ``[...]`` in nats."""
        return -(self.logits.exp() * self.logits).sum(-1)


class BoundedNormal:
    """A normal whose mean lies in (-1, 1) and whose deviation lies between ``low`` and ``high``.

    Samples are not clipped; environments clip them. ``mean_raw`` and ``stddev_raw [..., A]`` are plain linear outputs.
    """

    def __init__(self, mean_raw: Tensor, stddev_raw: Tensor, low: float = 0.1, high: float = 1.0) -> None:
        self.mean = torch.tanh(mean_raw.float())
        self.stddev = (high - low) * torch.sigmoid(stddev_raw.float() + 2.0) + low

    @property
    def mode(self) -> Tensor:
        """The mean ``[..., A]``."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """Actions ``[..., A]`` by normal noise ``[..., A]``."""
        return (self.mean + self.stddev * noise).detach()

    def log_prob(self, action: Tensor) -> Tensor:
        """Log density ``[...]``, summed over the dimensions of the action."""
        z = (action - self.mean) / self.stddev
        return (-0.5 * z.square() - torch.log(self.stddev) - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy ``[...]`` in nats, summed over the dimensions; the bounds are not taken into account."""
        return (torch.log(self.stddev) + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class ActionDistribution:
    """Independent distributions of the parts of a flat action ``[..., A]``, in the order of the action spec."""

    def __init__(self, parts: dict[str, Categorical | BoundedNormal], sizes: list[int], noise_sizes: list[int]) -> None:
        self.parts, self.sizes, self.noise_sizes = parts, sizes, noise_sizes

    @property
    def mode(self) -> Tensor:
        """The best action ``[..., A]``."""
        return torch.cat([part.mode for part in self.parts.values()], -1)

    def sample(self, noise: Tensor | None) -> Tensor:
        """Actions ``[..., A]`` by the noise of ``Actor.noise``; the mode where that is None."""
        if noise is None:
            return self.mode.detach()
        pieces = noise.split(self.noise_sizes, -1)
        return torch.cat([part.sample(piece) for part, piece in zip(self.parts.values(), pieces)], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Log probability ``[...]``, summed over the parts."""
        pieces = action.split(self.sizes, -1)
        return torch.stack([part.log_prob(piece) for part, piece in zip(self.parts.values(), pieces)]).sum(0)

    def entropies(self) -> dict[str, Tensor]:
        """Entropy ``[...]`` of each part."""
        return {name: part.entropy() for name, part in self.parts.items()}


class Actor(nn.Module):
    """An MLP and, for each part of the action, its own linear outputs."""

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        self.action_parts: tuple[ActionPart, ...] = config.actions.leaves()
        self.low, self.high = config.min_std, config.max_std
        self.mlp = MLP(config.deter_dim + config.stoch_dim, config.units, config.policy_layers)
        self.heads = nn.ModuleDict()
        for part in self.action_parts:
            outputs = ("logits",) if part.kind == "discrete" else ("mean", "stddev")
            scale = config.policy_outscale
            self.heads[part.name] = nn.ModuleDict(
                {name: Linear(config.units, part.dim, outscale=scale) for name in outputs}
            )
        self.noise_sizes = [1 if part.kind == "discrete" else part.dim for part in self.action_parts]

    def forward(self, feat: Tensor) -> ActionDistribution:
        """``feat [..., D + S * C]`` to a distribution over actions ``[..., A]``."""
        return self.distribution(self.mlp(feat))

    def distribution(self, x: Tensor) -> ActionDistribution:
        """The distribution given what the MLP made of the features."""
        dists: dict[str, Categorical | BoundedNormal] = {}
        for part in self.action_parts:
            outputs = {name: layer(x) for name, layer in self.heads[part.name].items()}  # type: ignore[operator, union-attr]
            if part.kind == "discrete":
                dists[part.name] = Categorical(outputs["logits"])
            else:
                dists[part.name] = BoundedNormal(outputs["mean"], outputs["stddev"], self.low, self.high)
        return ActionDistribution(dists, [part.dim for part in self.action_parts], self.noise_sizes)

    def noise(self, *shape: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Noise ``[*shape, K]`` to sample with: one uniform for a discrete part, normals for a continuous one."""
        pieces = []
        for part, size in zip(self.action_parts, self.noise_sizes):
            make = torch.rand if part.kind == "discrete" else torch.randn
            pieces.append(make(*shape, size, generator=generator, device=device))
        return torch.cat(pieces, -1)


class ReturnNormalizer(nn.Module):
    """Moving averages of a low and a high percentile; their distance scales the advantages.

    The averages start at zero and are not debiased. ``scale`` is at least ``limit``, so that small returns are not
    blown up. Source: Hafner et al. 2023, "Critic learning" and "Actor learning".
    """

    lo: Tensor
    hi: Tensor

    def __init__(self, *, rate: float = 0.01, limit: float = 1.0, low: float = 5.0, high: float = 95.0) -> None:
        super().__init__()
        self.rate, self.limit, self.low, self.high = rate, limit, low, high
        self.register_buffer("lo", torch.zeros(()))
        self.register_buffer("hi", torch.zeros(()))

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Move the averages towards the percentiles of ``returns`` of any shape."""
        lo, hi = percentiles(returns, self.low, self.high)
        self.lo.lerp_(lo, self.rate)
        self.hi.lerp_(hi, self.rate)

    @property
    def offset(self) -> Tensor:
        """The low average."""
        return self.lo

    @property
    def scale(self) -> Tensor:
        """Distance of the averages, at least ``limit``."""
        return (self.hi - self.lo).clamp(min=self.limit)
