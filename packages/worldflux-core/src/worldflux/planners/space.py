"""The space plans are searched in: flat action vectors whose parts are one-hot or lie in [-1, 1].

One distribution serves both kinds of parts. ``mean [E, H, A]`` holds means where the action is continuous and class
probabilities where it is discrete; ``std [E, H, A]`` is read only where it is continuous. The mean of one-hot elites is
the maximum-likelihood estimate of the probabilities, so every planner that refits a mean plans discrete actions, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec

UNIMIX = 0.01  # share of the uniform distribution in class probabilities, so that no class can die out
RESTART = 0.5  # the same in a warm start, whose probabilities have narrowed: means get their first std back, too


@dataclass(frozen=True)
class ActionSpace:
    """The flat vector of an action spec. ``mask [E, A]`` is 0 where an environment's task does not use an entry.

    Raises ConfigurationError for actions that are neither numbers nor classes.
    """

    spec: ActionSpec
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        wrong = [part.kind for part in self.spec.leaves() if part.kind not in ("continuous", "discrete")]
        if wrong or not self.dim:
            raise ConfigurationError(
                f"a planner chooses continuous, discrete or multi actions, this model takes {self.spec.kind!r} actions "
                f"of size {self.dim}: give the model an action space, or plan with a planner of its family"
            )

    @property
    def dim(self) -> int:
        """The size A of the flat vector."""
        return self.spec.dim

    @property
    def discrete(self) -> tuple[slice, ...]:
        """Where the one-hot parts lie."""
        return tuple(where for part, where in self.spec.slices() if part.kind == "discrete")

    def masked(self, mask: Tensor | None) -> ActionSpace:
        """The same space with a mask ``[E, A]``."""
        return replace(self, mask=mask)

    def center(self, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """The mean that knows nothing, ``[A]``: 0, and equal probabilities."""
        center = torch.zeros(self.dim, device=device, dtype=dtype)
        for where in self.discrete:
            center[where] = 1 / (where.stop - where.start)
        return center

    def noise(self, *shape: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Draw ``[*shape, A]``: standard normal for continuous entries, standard Gumbel for discrete ones."""
        device = generator.device
        noise = torch.randn(*shape, self.dim, generator=generator, device=device, dtype=dtype)
        for where in self.discrete:
            noise[..., where] = gumbel(*shape, where.stop - where.start, generator=generator, dtype=dtype)
        return noise

    def uniform(self, *shape: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Draw actions ``[*shape, A]`` uniformly."""
        device = generator.device
        actions = torch.rand(*shape, self.dim, generator=generator, device=device, dtype=dtype) * 2 - 1
        for where in self.discrete:
            actions[..., where] = _one_hot(actions[..., where])
        return actions

    def sample(self, mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[..., A]`` of the distribution; the three broadcast. Discrete parts by the Gumbel-max trick."""
        actions = mean + std * noise
        for where in self.discrete:
            allowed = self._mask_like(mean)[..., where] if self.mask is not None else 1.0
            actions[..., where] = _one_hot((mean[..., where] * allowed).log() + noise[..., where])
        return self.clip(actions)

    def mode(self, mean: Tensor) -> Tensor:
        """The likeliest action ``[..., A]``: the mean, and the likeliest classes."""
        if not (discrete := self.discrete):
            return self.clip(mean)
        actions = mean.clone()
        for where in discrete:
            actions[..., where] = _one_hot(mean[..., where])
        return self.clip(actions)

    def clip(self, actions: Tensor) -> Tensor:
        """Actions ``[E, ..., A]`` within their bounds, and 0 where the task does not use an entry."""
        clipped = actions.clamp(-1, 1)
        return clipped if self.mask is None else clipped * self._mask_like(actions)

    def bound(self, mean: Tensor, std: Tensor, low: float, high: float = torch.inf) -> tuple[Tensor, Tensor]:
        """Keep a refitted distribution searching: std within bounds, no class without a chance."""
        return self.soften(mean, UNIMIX), std.clamp(low, high)

    def restart(self, mean: Tensor) -> Tensor:
        """The mean of the previous call as one to search from again."""
        return self.soften(mean, RESTART)

    def soften(self, mean: Tensor, share: float) -> Tensor:
        """Class probabilities mixed with ``share`` of the uniform distribution; means stay."""
        if not self.discrete:
            return mean
        softened = mean.clone()
        for where in self.discrete:
            softened[..., where] = (1 - share) * mean[..., where] + share / (where.stop - where.start)
        return softened

    def _mask_like(self, actions: Tensor) -> Tensor:
        assert self.mask is not None
        return self.mask.reshape(self.mask.shape[0], *[1] * (actions.ndim - 2), self.dim).to(actions)


def gumbel(*shape: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw standard Gumbel noise: adding it to log weights and taking the largest samples by weight."""
    draws = torch.empty(*shape, device=generator.device, dtype=dtype).exponential_(generator=generator)
    return -draws.clamp_min(torch.finfo(dtype).tiny).log()


def _one_hot(scores: Tensor) -> Tensor:
    return one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)
