"""The policy network and the distribution of composite actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux.core.spec import ActionPart

from .config import DreamerV3Config
from .distributions import BoundedNormal, Categorical
from .networks import MLP, Linear


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
