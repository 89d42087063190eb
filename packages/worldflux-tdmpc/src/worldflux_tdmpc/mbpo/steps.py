"""What an update reads: steps of experience, real or imagined, and all of its randomness.

Letters: N real steps, E networks, K steps of a rollout, S rollouts, M = R + S K steps that actor and critics learn
from, R of them real, O observation, A action, D = 1 + O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from worldflux import Batch
from worldflux.blocks import arrivals, valid_steps

_PRIME = 2_147_483_647


@dataclass
class Steps:
    """Steps of any episodes, each with the weight it counts by: ``obs``, ``next_obs [N, O]``, ``action [N, A]``."""

    obs: Tensor
    action: Tensor
    reward: Tensor  # [N]
    terminal: Tensor  # [N] float
    next_obs: Tensor
    weight: Tensor  # [N]

    def map(self, function: Callable[[Tensor], Tensor]) -> Steps:
        """The same with every tensor passed through ``function``."""
        return Steps(*(function(value) for value in vars(self).values()))

    def held_out(self, share: float) -> Tensor:
        """1 for the steps that never train the ensemble, about ``share`` of all, ``[N]``.

        What a step is decides it, so it stays out whenever, and from whichever source, it comes back.
        """
        content = torch.cat([self.obs, self.action, self.reward.unsqueeze(-1)], -1).detach().float().contiguous()
        bits = content.view(torch.int32).long() & 0xFFFFFFFF
        factors = torch.arange(1, bits.shape[-1] + 1, device=bits.device) * 40_503 % 1_048_573
        return (((bits * factors) % _PRIME).sum(-1) % _PRIME < share * _PRIME).float()


@dataclass
class Noise:
    """All randomness of one update."""

    bootstrap: Tensor  # [E, N]: how often each network sees each step
    order: Tensor  # [N]: the first R steps are learnt from as they are, rollouts begin at the next S
    member: Tensor  # [K, S]: which of the elites is asked
    outcome: Tensor  # [K, S, D]
    behaviour: Tensor  # [K, S, A]: the policy's, in the rollouts
    target: Tensor  # [M, A]: the policy's, where the steps arrive
    actor: Tensor  # [M, A]


def read_steps(batch: Batch, *, obs: Tensor) -> Steps:
    """Turn rows (``obs [B, T, O]`` as encoded) of a checked batch into steps; those that leave an episode weigh 0.

    Raises ValidationError for rows of one each.
    """
    arrived = arrivals(batch)
    steps = Steps(
        obs=obs[:, :-1],
        action=arrived.action,
        next_obs=obs[:, 1:],
        reward=arrived.reward,
        terminal=arrived.is_terminal.float(),
        weight=valid_steps(batch),
    )
    return steps.map(lambda rows: rows.flatten(0, 1))
