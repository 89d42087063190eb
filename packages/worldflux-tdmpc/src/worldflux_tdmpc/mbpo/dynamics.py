"""The ensemble: what follows an action and what it pays, as several networks think.

Letters: E networks, K of them, N rows, O observation, A action, D = 1 + O outputs: the reward, then the change of the
observation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from worldflux.core.state import State

from .config import MBPOConfig
from .losses import soft_bounded, weight_decay
from .networks import Stack, Standardiser, swish


class Dynamics(nn.Module):
    """Probabilistic networks in stacked tensors; those in ``elites`` are asked what happens next.

    Source: Janner et al. 2019, §4; Chua et al. 2018 (PETS), §4 and appendix A.
    """

    MEMORY = 100  # batches over which held-out errors are averaged
    elites: Tensor
    errors: Tensor
    batches: Tensor

    def __init__(self, config: MBPOConfig) -> None:
        super().__init__()
        self.action_dim, self.decays = config.actions.dim, config.weight_decays
        inputs, outputs = config.obs_size + self.action_dim, 1 + config.obs_size
        self.standardise = Standardiser(inputs)
        self.nets = Stack(config.num_nets, [inputs, *[config.model_units] * config.model_layers, 2 * outputs], swish)
        self.max_log_variance = nn.Parameter(torch.full((outputs,), 0.5))
        self.min_log_variance = nn.Parameter(torch.full((outputs,), -10.0))
        self.register_buffer("elites", torch.arange(config.num_elites))
        self.register_buffer("errors", torch.zeros(config.num_nets))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        """``obs [N, O]`` and ``reward [N]`` after ``action [N, A]`` (absent: zeros).

        ``deterministic`` averages the elites' means. Otherwise each row asks the elite ``member [N]`` and draws from
        its Gaussian by ``noise [N, D]``; both stand in ``conditioned``, too.
        """
        mean, log_variance = self.moments(self.inputs(state, conditioned), self.elites)
        if deterministic:
            return self._arrived(state, mean.mean(0))
        index = conditioned["member"].view(1, -1, 1).expand(1, -1, mean.shape[-1])
        mean, log_variance = mean.gather(0, index)[0], log_variance.gather(0, index)[0]
        return self._arrived(state, mean + torch.exp(0.5 * log_variance) * conditioned["noise"])

    def _arrived(self, state: State, outputs: Tensor) -> State:
        return State({"obs": state["obs"] + outputs[:, 1:], "reward": outputs[:, 0]})

    def inputs(self, state: State, conditioned: dict[str, Tensor]) -> Tensor:
        """What the networks read ``[N, O + A]``, before it is standardised."""
        obs, action = state["obs"], conditioned.get("action")
        if action is None:
            action = obs.new_zeros(*obs.shape[:-1], self.action_dim)
        return torch.cat([obs, action], -1)

    def moments(self, x: Tensor, heads: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[K, N, D]`` for inputs ``[N, O + A]``, of all networks or of ``heads [K]``."""
        mean, raw = self.nets(self.standardise(x), heads).float().chunk(2, -1)
        return mean, soft_bounded(raw, self.min_log_variance, self.max_log_variance)

    def regularisation(self) -> tuple[Tensor, Tensor]:
        """The weights' decay, and how far apart the bounds of the log-variance are."""
        decay = weight_decay([layer.weight for layer in self.nets], self.decays)  # type: ignore[misc]
        return decay, self.max_log_variance.sum() - self.min_log_variance.sum()

    @torch.no_grad()
    def rank(self, error: Tensor, weight: Tensor) -> None:
        """Take note of squared errors ``[E, N]`` on the held-out rows (``weight [N]``), and choose the elites anew.

        A batch without such rows changes nothing.
        """
        total = weight.sum()
        found = (error * weight).sum(-1) / total.clamp(min=1e-6)
        self.batches += (total > 0).long()
        rate = torch.where(total > 0, 1 / self.batches.clamp(1, self.MEMORY), 0.0)
        self.errors.lerp_(found, rate)
        self.elites.copy_(self.errors.argsort(stable=True)[: len(self.elites)])
