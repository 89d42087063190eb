"""Latent distributions: how parameters become a sample, and how far two of them are apart."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import ConfigurationError, ShapeMismatchError

# What the spaces are made of, for models that keep their parameters otherwise.


def simnorm(x: Tensor, group: int) -> Tensor:
    """Softmax within groups of ``group`` entries of the last axis, in float32 (Hansen et al. 2024, §3.1)."""
    return x.float().reshape(*x.shape[:-1], -1, group).softmax(-1).flatten(-2)


def class_softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis; for few classes on a CPU the classes come to lie apart, which is ten times faster."""
    if logits.shape[-1] < 32 and logits.device.type == "cpu":
        return torch.softmax(logits.movedim(-1, 0).contiguous(), 0).movedim(0, -1)
    return torch.softmax(logits, -1)


def unimix_probs(logits: Tensor, unimix: float) -> Tensor:
    """Softmax over the last axis, mixed with ``unimix`` of the uniform distribution (Hafner et al. 2023)."""
    probs = class_softmax(logits.float())
    return (1 - unimix) * probs + unimix / logits.shape[-1] if unimix else probs


def gaussian_kl(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """KL divergence ``[...]`` in nats of diagonal normals (mean and deviation ``[..., D]``), from first to second."""
    (mean, std), (to_mean, to_std) = first, second
    ratio = (std / to_std).square()
    return 0.5 * (ratio + ((mean - to_mean) / to_std).square() - 1 - ratio.log()).sum(-1)


class LatentSpace(nn.Module, ABC):
    """A family of distributions over latents ``[..., D]``, given by parameters ``[..., param_dim]``."""

    param_dim: int

    @abstractmethod
    def sample(self, params: Tensor, deterministic: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Return a reparameterised (or straight-through) sample, or the mode."""

    @abstractmethod
    def kl_divergence(self, posterior: Tensor, prior: Tensor, free_nats: float = 0.0) -> Tensor:
        """Return KL(posterior || prior) in nats ``[...]``, at least ``free_nats``."""


class GaussianLatentSpace(LatentSpace):
    """Diagonal normal; parameters are mean and a raw scale mapped by a sigmoid into [min_std, max_std]."""

    def __init__(self, dim: int, *, min_std: float = 0.1, max_std: float = 2.0) -> None:
        super().__init__()
        if dim <= 0 or not 0 < min_std < max_std:
            raise ConfigurationError(f"need dim > 0 and 0 < min_std < max_std, got {dim}, {min_std}, {max_std}")
        self.dim, self.param_dim, self.min_std, self.max_std = dim, 2 * dim, min_std, max_std

    def moments(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, each ``[..., D]``."""
        mean, raw = params.chunk(2, -1)
        return mean, self.min_std + (self.max_std - self.min_std) * torch.sigmoid(raw)

    def sample(self, params: Tensor, deterministic: bool = False, generator: torch.Generator | None = None) -> Tensor:
        mean, std = self.moments(params)
        if deterministic:
            return mean
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return mean + std * noise

    def kl_divergence(self, posterior: Tensor, prior: Tensor, free_nats: float = 0.0) -> Tensor:
        return gaussian_kl(self.moments(posterior), self.moments(prior)).clamp_min(free_nats)


class CategoricalLatentSpace(LatentSpace):
    """Groups of one-hot categoricals with straight-through gradients and a uniform share mixed in (DreamerV3).

    Parameters may have an axis for groups and one for classes, ``[..., G, C]``; samples then have them, too.
    """

    def __init__(self, num_categoricals: int = 32, num_classes: int = 32, *, unimix: float = 0.01) -> None:
        super().__init__()
        if num_categoricals <= 0 or num_classes <= 1 or not 0 <= unimix < 1:
            raise ConfigurationError(
                f"need groups > 0, classes > 1, 0 <= unimix < 1, got {num_categoricals}, {num_classes}, {unimix}"
            )
        self.groups, self.classes, self.unimix = num_categoricals, num_classes, unimix
        self.param_dim = num_categoricals * num_classes

    def probs(self, params: Tensor) -> Tensor:
        """Return mixed probabilities ``[..., G, C]``."""
        grouped = params.reshape(*params.shape[:-1], -1, self.classes) if params.shape[-1] == self.param_dim else params
        if grouped.shape[-2:] != (self.groups, self.classes):
            expected = f"[..., {self.param_dim}] or [..., {self.groups}, {self.classes}]"
            raise ShapeMismatchError("parameters of the latents", expected=expected, got=tuple(params.shape))
        return unimix_probs(grouped, self.unimix)

    def sample(self, params: Tensor, deterministic: bool = False, generator: torch.Generator | None = None) -> Tensor:
        probs = self.probs(params)
        if deterministic:
            index = probs.argmax(-1)
        else:
            flat = probs.detach().reshape(-1, self.classes)
            index = torch.multinomial(flat, 1, generator=generator).reshape(probs.shape[:-1])
        onehot = F.one_hot(index, self.classes).to(probs.dtype)
        return (onehot + probs - probs.detach()).reshape(params.shape)

    def kl_divergence(self, posterior: Tensor, prior: Tensor, free_nats: float = 0.0) -> Tensor:
        p, q = self.probs(posterior), self.probs(prior)
        tiny = torch.finfo(p.dtype).tiny
        kl = p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())
        return kl.sum((-2, -1)).clamp_min(free_nats)


class SimNormLatentSpace(LatentSpace):
    """Groups of simplices: a softmax within each group, no randomness (TD-MPC2, Hansen et al. 2024, §3.1)."""

    def __init__(self, dim: int = 512, simnorm_dim: int = 8) -> None:
        super().__init__()
        if dim <= 0 or simnorm_dim <= 0 or dim % simnorm_dim:
            raise ConfigurationError(f"SimNorm needs dim divisible by simnorm_dim, got {dim} and {simnorm_dim}")
        self.param_dim, self.simnorm_dim = dim, simnorm_dim

    def _groups(self, params: Tensor) -> Tensor:
        return params.reshape(*params.shape[:-1], -1, self.simnorm_dim)

    def sample(self, params: Tensor, deterministic: bool = False, generator: torch.Generator | None = None) -> Tensor:
        return simnorm(params, self.simnorm_dim)

    def kl_divergence(self, posterior: Tensor, prior: Tensor, free_nats: float = 0.0) -> Tensor:
        logp, logq = (self._groups(x).log_softmax(-1) for x in (posterior, prior))
        return (logp.exp() * (logp - logq)).sum((-2, -1)).clamp_min(free_nats)
