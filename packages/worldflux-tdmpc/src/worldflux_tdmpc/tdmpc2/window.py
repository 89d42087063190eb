"""What an update reads: a window of experience, and all of its randomness.

Letters: H steps (of T = H + 1 rows), B sequences, A action, D latent, E task embedding, Q critics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from worldflux import Batch
from worldflux.blocks import arrivals, valid_steps

from .config import TASK, TDMPC2Config
from .encoder import draw_shift
from .prior import Prior

RECORDED_TASK = "wf.data.task"


@dataclass
class Window:
    """Time-major rows: ``obs [T, B, ...]``, and for each step the action done, what it paid and whether it ended."""

    obs: dict[str, Tensor]
    action: Tensor  # [H, B, A]
    reward: Tensor  # [H, B]
    terminal: Tensor  # [H, B] float
    valid: Tensor  # [H, B] float: 1 up to the first row of another episode
    task: Tensor | None = None  # [B]


@dataclass
class Noise:
    """All randomness of one update: the policy's draws, the two critics asked, the shifts of images, dropout."""

    target_action: Tensor  # [H, B, A], at the rows arrived in
    target_heads: Tensor  # [2]
    policy_action: Tensor  # [T, B, A]
    policy_heads: Tensor  # [2]
    shift: Tensor | None = None  # [T, B, 2]
    value_keep: Tensor | None = None  # [Q, H, B, units]
    policy_keep: Tensor | None = None  # [2, T, B, units]


def with_task(batch: Batch) -> Batch:
    """Recorded data tells tasks beside what is observed (``extras["wf.data.task"] [B, T]``): here they belong to it."""
    told = isinstance(batch, Batch) and isinstance(batch.obs, Mapping) and TASK not in batch.obs
    if not told or RECORDED_TASK not in batch.extras:
        return batch
    return replace(batch, obs={**batch.obs, TASK: batch.extras[RECORDED_TASK]})


def read_window(batch: Batch) -> Window:
    """Turn the rows of a checked batch into steps. Raises ValidationError for a batch of one row or without rewards."""
    arrived = arrivals(batch).map(lambda rows: rows.transpose(0, 1))
    return Window(
        obs={name: rows.transpose(0, 1) for name, rows in batch.obs.items() if name != TASK},
        action=arrived.action,
        reward=arrived.reward,
        terminal=arrived.is_terminal.float(),
        valid=valid_steps(batch, unbroken=True).transpose(0, 1),
        task=batch.obs[TASK][:, 0] if TASK in batch.obs else None,
    )


def draw_noise(
    window: Window, prior: Prior, config: TDMPC2Config, *, training: bool, generator: torch.Generator
) -> Noise:
    """Draw all randomness of one update; dropout is for ``training``."""
    (steps, size), device = window.reward.shape, window.reward.device

    def action(rows: int) -> Tensor:
        return prior.noise(rows, size, generator=generator, device=device)

    def keep(heads: int, rows: int) -> Tensor | None:
        if not training or not config.dropout:
            return None
        drawn = torch.rand(heads, rows, size, config.mlp_dim, generator=generator, device=device)
        return drawn.ge_(config.dropout).div_(1 - config.dropout)

    shift = draw_shift(steps + 1, size, generator=generator, device=device) if config.image_names else None
    return Noise(
        target_action=action(steps),
        target_heads=draw_heads(config, generator),
        policy_action=action(steps + 1),
        policy_heads=draw_heads(config, generator),
        shift=shift,
        value_keep=keep(config.num_q, steps),
        policy_keep=keep(2, steps + 1),
    )


def draw_heads(config: TDMPC2Config, generator: torch.Generator) -> Tensor:
    """Draw two critics ``[2]`` of the ensemble."""
    return torch.randperm(config.num_q, generator=generator, device=generator.device)[:2]
