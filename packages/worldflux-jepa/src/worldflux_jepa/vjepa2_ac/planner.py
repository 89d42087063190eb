"""The planner of the official V-JEPA 2-AC: the cross-entropy method over small steps of an arm, and its grip.

Letters: E environments, N samples, K elites, H horizon.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from worldflux import Amount, ConfigurationError, Count, Field, NonNegative, Positive
from worldflux.planners import Noise, Plan, Planner, Problem

from .pose import SIZE

Kept = Annotated[float, Field(ge=0, lt=1)]
CLOSED = 1.0  # what closes the hand at once


@dataclass(frozen=True, kw_only=True)
class ArmPlanner(Planner):
    """Plans steps ``(x, y, z)`` of at most ``reach`` along each axis, and the grip; the hand does not turn.

    ``momentum`` and its companions keep that share of the previous mean and deviation, of steps and of the grip. The
    grip changes by ``grip`` at most, and a plan that changes it by less than ``grip_least`` leaves it alone. ``held``
    fixes the step along an axis where it is no None; from step ``close_from`` on the hand closes (None: it is planned).
    With ``GoalObjective(goal, key="latent")`` it is the official planner; defaults are those of its wrapper. Raises
    ConfigurationError.

    Source: Assran et al. 2025 (V-JEPA 2) §4; facebookresearch/vjepa2 at c2963a4, ``notebooks/utils/mpc_utils.py``.
    """

    horizon: Count = 2
    num_samples: Count = 400
    num_elites: Annotated[int, Field(ge=2)] = 10
    iterations: Count = 10
    momentum: Kept = 0.15
    momentum_std: Kept = 0.15
    momentum_grip: Kept = 0.15
    momentum_grip_std: Kept = 0.15
    reach: Positive = 0.05
    grip: Positive = 0.75
    grip_least: NonNegative = 0.25
    held: tuple[float | None, float | None, float | None] = (None, None, None)
    close_from: Amount | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_elites > self.num_samples:
            raise ConfigurationError(f"num_elites={self.num_elites} of num_samples={self.num_samples}: take fewer")

    def check(self, problem: Problem) -> None:
        """Raise ConfigurationError unless actions are 7 numbers: a step, a turn, and a change of grip."""
        spec = problem.space.spec
        if (spec.kind, spec.dim) != ("continuous", SIZE):
            raise ConfigurationError(
                f"ArmPlanner plans {SIZE} continuous numbers (step, turn, grip), the model takes {spec.dim} of "
                f"{spec.kind!r}: use worldflux.planners.CEMPlanner"
            )

    def draw(self, problem: Problem, generator: torch.Generator) -> Noise:
        """Samples ``[E, N, H, 4]`` of each iteration, exploration and the objective's draws."""
        device, envs = generator.device, problem.num_envs

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=device, dtype=problem.dtype)

        samples = [normal(envs, self.num_samples, self.horizon, 4) for _ in range(self.iterations)]
        counts = [self.num_samples] * self.iterations
        return Noise(samples, normal(envs, SIZE), self._draw_objective(problem, generator, counts))

    @torch.no_grad()
    def search(self, problem: Problem, noise: Noise, carry: dict[str, Tensor], *, explore: bool = False) -> Plan:
        """Sample, select, refit; then the mean."""
        score = self._scorer(problem, self.num_samples)
        mean, std = self.begin(noise.samples[0][:, 0])
        for samples, drawn in zip(noise.samples, noise.objective):
            candidates = self.candidates(mean, std, samples)
            scores, best = score(candidates, drawn).topk(self.num_elites, 1)
            elites = candidates.gather(1, best[..., None, None].expand(-1, -1, *candidates.shape[2:]))
            mean, std = self.refit(mean, std, elites)
        actions = self.action(mean)
        if explore:
            actions = self._explore(problem.space, actions, noise)
        return Plan(actions.transpose(0, 1).contiguous(), scores[:, 0])

    # --- the steps of a search --------------------------------------------------------------------------------------

    def begin(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``[E, H, 4]`` to begin with."""
        mean, std = torch.zeros_like(like), torch.ones_like(like)
        std[..., :3] = self.reach
        for axis, value in enumerate(self.held):
            if value is not None:
                mean[..., axis] = value
        return mean, std

    def candidates(self, mean: Tensor, std: Tensor, noise: Tensor) -> Tensor:
        """Actions ``[E, N, H, 7]`` of mean and deviation ``[E, H, 4]`` and noise ``[E, N, H, 4]``."""
        drawn = noise * std.unsqueeze(1) + mean.unsqueeze(1)
        step, grip = drawn[..., :3].clamp(-self.reach, self.reach), drawn[..., 3:].clamp(-self.grip, self.grip)
        for axis, value in enumerate(self.held):
            if value is not None:
                step[..., axis] = value
        if self.close_from is not None:
            grip[..., self.close_from :, :] = CLOSED
        return torch.cat([step, torch.zeros_like(step), grip], -1)

    def refit(self, mean: Tensor, std: Tensor, elites: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation ``[E, H, 4]`` of elites ``[E, K, H, 7]``, and their share of what they were."""
        own = torch.cat([elites[..., :3], elites[..., 6:]], -1)

        def kept(step: float, grip: float) -> Tensor:
            return mean.new_tensor([step] * 3 + [grip])

        means = torch.lerp(own.mean(1), mean, kept(self.momentum, self.momentum_grip).expand_as(mean))
        spread = own.std(1, unbiased=True)
        return means, torch.lerp(spread, std, kept(self.momentum_std, self.momentum_grip_std).expand_as(std))

    def action(self, mean: Tensor) -> Tensor:
        """What is done, ``[E, H, 7]``, of a mean ``[E, H, 4]``."""
        step, grip = mean[..., :3], mean[..., 3:]
        return torch.cat([step, torch.zeros_like(step), torch.where(grip.abs() < self.grip_least, 0.0, grip)], -1)
