"""The ensemble: what follows an action and what it pays, as several networks think.

Letters: E networks, K of them, N rows, O observation, A action, D = 1 + O outputs: the reward, then the change of the
observation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worldflux import State
from worldflux.blocks import Ensemble, Standardiser, action_in

from .config import MBPOConfig
from .losses import averaged, gaussian_nll, soft_bounded, weight_decay


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
        self.action_dim, self.decays, self.bounds_coef = config.actions.dim, config.weight_decays, config.bounds_coef
        inputs, outputs = config.obs_size + self.action_dim, 1 + config.obs_size
        self.standardise = Standardiser(inputs)
        units = [config.model_units] * config.model_layers
        self.nets = Ensemble(config.num_nets, [inputs, *units, 2 * outputs], F.silu)
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
        return torch.cat([state["obs"], action_in(conditioned, like=state["obs"], size=self.action_dim)], -1)

    def moments(self, x: Tensor, heads: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``[K, N, D]`` for inputs ``[N, O + A]``, of all networks or of ``heads [K]``."""
        mean, raw = self.nets(self.standardise(x), heads).float().chunk(2, -1)
        return mean, soft_bounded(raw, self.min_log_variance, self.max_log_variance)

    def losses(
        self,
        state: State,
        conditioned: dict[str, Tensor],
        target: Tensor,
        *,
        bootstrap: Tensor,
        held_out: Tensor,
        weight: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses, and what to log, of outputs that should have been ``target [N, D]``; elites are chosen anew.

        Steps count by their ``weight [N]``; the networks see each as often as ``bootstrap [E, N]`` says, and never what
        is ``held_out [N]``, by which they are judged.
        """
        inputs, held = self.inputs(state, conditioned), held_out * weight
        train = weight - held
        if self.training:
            self.standardise.observe(inputs.detach(), train)
        mean, log_variance = self.moments(inputs)
        error = (mean.detach() - target).square().mean(-1)
        if self.training:
            self.rank(error, held)
        weights = [layer.weight for layer in self.nets]
        apart = self.max_log_variance.sum() - self.min_log_variance.sum()
        found = {
            "model": gaussian_nll(mean, log_variance, target, bootstrap * train, train.sum().clamp(min=1.0)),
            "decay": weight_decay(weights, self.decays),  # type: ignore[arg-type]
            "bounds": self.bounds_coef * apart,
        }
        deviation = torch.exp(0.5 * log_variance.detach())
        return found, {"model_error": averaged(error[self.elites].mean(0), held), "model_std": deviation.mean()}

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
