"""How near imagined latents are to a goal whose image and vectors count apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from worldflux import ConfigurationError, ShapeMismatchError, State, Trajectory, WorldModel


@dataclass(frozen=True)
class PatchGoal:
    """Minus the squared distance of patches, and ``alpha`` times that of the vectors' embedding of the first patch.

    ``goal`` is a state of one row, or of one for each environment; of latents ``[B, N, D]`` the last ``vector_units``
    channels are the vectors'. ``over="last"`` compares the last state. ``"all"`` averages all rows, those before the
    first prediction too, each weighing ``base`` times the one before, and divides by their number, as the official
    program does. Source: Zhou et al. 2024 (DINO-WM), §3.3; gaoyuezhou/dino_wm ``planning/objectives.py``.
    """

    goal: State
    vector_units: int = 0
    alpha: float = 1.0
    over: Literal["last", "all"] = "last"
    base: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.goal, State) or "latent" not in self.goal or self.goal["latent"].ndim != 3:
            raise ConfigurationError(
                "the goal must be a State with latents [B, N, D]: use model.encode(goal_observation)"
            )
        if not 0 <= self.vector_units < self.goal["latent"].shape[-1]:
            width = self.goal["latent"].shape[-1]
            raise ConfigurationError(f"vector_units is {self.vector_units} of {width} channels")
        if self.over not in ("last", "all"):
            raise ConfigurationError(f"over must be 'last' or 'all', got {self.over!r}")

    def check(self, model: WorldModel) -> None:
        """Accept any model: the goal was encoded by it."""

    def noise(
        self, model: WorldModel, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw nothing."""
        return {}

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """Minus the energy ``[B]``."""
        latents = trajectory.to_tensor("latent")  # [H + 1, B, N, D]
        goal = self.goal["latent"].to(latents)
        if latents.shape[2:] != goal.shape[1:]:
            raise ShapeMismatchError("goal latents", expected=tuple(latents.shape[2:]), got=tuple(goal.shape[1:]))
        goal = goal.repeat_interleave(trajectory.batch_size // len(goal), 0)
        if self.over == "last":
            return -self.energy(latents[-1], goal)
        first, real = trajectory.states[0], torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        if "past" in first:
            before = first["past"].shape[1]
            latents = torch.cat([first["past"].transpose(0, 1), latents])
            row = torch.arange(before, device=latents.device).unsqueeze(-1)
            real = torch.cat([row >= before - first["length"], real])
        rows = torch.arange(len(latents), device=latents.device, dtype=latents.dtype)
        weight = real * self.base ** (rows - rows[-1]).unsqueeze(-1)
        energy = torch.stack([self.energy(latent, goal) for latent in latents])
        return -(energy * weight).sum(0) / weight.sum(0) / real.sum(0)

    def energy(self, latent: Tensor, goal: Tensor) -> Tensor:
        """Of latents ``[B, N, D]``, ``[B]``."""
        apart, seen = (latent - goal).square(), latent.shape[-1] - self.vector_units
        energy = apart[..., :seen].flatten(1).mean(1)
        return energy + self.alpha * apart[:, 0, seen:].mean(1) if self.vector_units else energy
