"""What makes a plan good. An objective scores imagined trajectories; higher is better, whatever the planner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.core.spec import Capability
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory

from .offers import OffersValue
from .over import Over, added_up, check_over

Score = Callable[[WorldModel, Trajectory], Tensor]


@runtime_checkable
class Objective(Protocol):
    """Scores trajectories of ``B = E * N`` rows: candidate ``n`` of environment ``e`` is row ``e * N + n``."""

    def check(self, model: WorldModel) -> None:
        """Raise ConfigurationError if the model cannot be scored by this objective."""
        ...

    def noise(
        self, model: WorldModel, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw what scoring ``batch_size`` rows once needs."""
        ...

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """Return ``[B]``, higher is better."""
        ...


@dataclass(frozen=True)
class RewardObjective:
    """Discounted predicted rewards, and what the last state is worth if the model offers a value.

    ``sum_t discount^t alive_t reward_{t+1} + discount^H alive_H value(state_H)``, where ``alive_t`` is the chance that
    the episode goes on up to state ``t``. ``discount`` is a number, or a function of the initial states ``[B]`` for
    models that serve tasks of different lengths. ``terminal=False`` leaves the value out. ``continues`` says how a
    model's continue predictions count: ``"soft"`` multiplies the probabilities, ``"hard"`` ends an episode at a
    probability below 0.5, ``"ignore"`` lets every episode go on.

    Sources: Hafner et al. 2019 (PlaNet) §3: rewards alone; Hansen et al. 2024 (TD-MPC2) §3.2: the terminal value;
    its episodic variant ends hard.
    """

    discount: float | Callable[[State], Tensor] = 0.99
    terminal: bool = True
    continues: Literal["soft", "hard", "ignore"] = "soft"

    def __post_init__(self) -> None:
        if not callable(self.discount) and not (isinstance(self.discount, (int, float)) and 0 <= self.discount <= 1):
            raise ConfigurationError(f"discount must lie in [0, 1], got {self.discount!r}")
        known = ("soft", "hard", "ignore")
        if self.continues not in known:
            raise ConfigurationError(
                f"continues must be one of {list(known)}, got {self.continues!r}.{did_you_mean(self.continues, known)}"
            )

    def check(self, model: WorldModel) -> None:
        """Raise ConfigurationError if the model predicts no reward."""
        if not model.supports(Capability.REWARD_PRED):
            raise ConfigurationError(
                f"{type(model).__name__} predicts no reward, so there is nothing to plan for: give the planner an "
                "objective, GoalObjective(goal) or a function (model, trajectory) -> scores [B]"
            )

    def noise(
        self, model: WorldModel, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """What the model's value draws."""
        offered = self._value(model)
        return {} if offered is None else offered.value_noise(batch_size, generator=generator, device=device)

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """Predicted return ``[B]``."""
        rewards = trajectory.rewards
        alive: float | Tensor = 1.0
        if rewards is None:
            raise ConfigurationError(f"the rollout of {type(model).__name__} predicts no rewards: check its executor")
        discount = self.discount(trajectory.states[0]) if callable(self.discount) else self.discount
        total, weight = torch.zeros_like(rewards[0]), torch.ones_like(rewards[0])
        for t, reward in enumerate(rewards):
            total = total + weight * reward
            if trajectory.continues is not None and self.continues != "ignore":
                going_on = trajectory.continues[t]
                alive = going_on if self.continues == "soft" else (going_on >= 0.5).to(reward)
            weight = weight * discount * alive
        offered = self._value(model)
        if offered is None:
            return total
        return total + weight * offered.terminal_value(trajectory.states[-1], noise).reshape(total.shape)

    def _value(self, model: WorldModel) -> OffersValue | None:
        return model if self.terminal and isinstance(model, OffersValue) else None


@dataclass(frozen=True)
class GoalObjective:
    """Nearness of imagined latents to a goal's: minus the energy.

    ``goal`` is a state (``model.encode(goal_observation)``) of one row, or of one row per environment. ``key`` names
    the latent that is compared (needed if states hold several). ``energy`` is ``"l1"`` or ``"l2"`` (means over the
    latent's entries), or a function ``(latent [B, ...], goal [B, ...]) -> [B]``. ``over="last"`` compares the last
    state, which may come late and by any way; ``"sum"`` adds all states, which makes haste, and shuns detours; a number
    from 0 to 1 adds all, each counting that much of what the next one counts.

    Sources: Assran et al. 2025 (V-JEPA 2) §4: l1 of the last state; Zhou et al. 2024 (DINO-WM) §3.3: l2.
    """

    goal: State
    key: str | None = None
    energy: Literal["l1", "l2"] | Callable[[Tensor, Tensor], Tensor] = "l1"
    over: Over = "last"

    def __post_init__(self) -> None:
        if not isinstance(self.goal, State):
            raise ConfigurationError(
                f"the goal must be a State, got a {type(self.goal).__name__}: use model.encode(goal_observation)"
            )
        if not callable(self.energy) and self.energy not in ("l1", "l2"):
            raise ConfigurationError(f"energy must be one of ['l1', 'l2'], got {self.energy!r}")
        check_over(self.over)
        if self.key is None and len(self.goal.tensors) > 1:
            raise ConfigurationError(
                f"the goal has the latents {sorted(self.goal.tensors)}: say which one to compare with key="
            )
        if self.key is not None and self.key not in self.goal:
            hint = did_you_mean(self.key, self.goal.tensors)
            raise ConfigurationError(f"the goal has no latent {self.key!r}, it has {sorted(self.goal.tensors)}.{hint}")

    def check(self, model: WorldModel) -> None:
        """Accept any model: the goal was encoded by it."""

    def check_rows(self, num_envs: int) -> None:
        """Raise ShapeMismatchError unless the goal has one row, or one per environment."""
        if self.goal.batch_size not in (1, num_envs):
            raise ShapeMismatchError(
                "rows of the goal: one, or one per environment", expected=f"1 or {num_envs}", got=self.goal.batch_size
            )

    def noise(
        self, model: WorldModel, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw nothing."""
        return {}

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """Minus the energy ``[B]``."""
        key = self.key or next(iter(self.goal.tensors))
        size, goal = trajectory.batch_size, self.goal[key]
        latents = trajectory.to_tensor(key)[-1 if self.over == "last" else 1 :]
        if latents.shape[2:] != goal.shape[1:]:
            raise ShapeMismatchError(
                f"goal {key!r}: encode it with this model", expected=tuple(latents.shape[2:]), got=tuple(goal.shape[1:])
            )
        goal = goal.to(latents).repeat_interleave(size // goal.shape[0], 0)
        return -added_up([self._energy(latent, goal) for latent in latents], self.over)

    def energy_of(self, state: State) -> Tensor:
        """The energy ``[B]`` of states of as many rows as the goal has, or of any number where that has one."""
        key = self.key or next(iter(self.goal.tensors))
        goal = self.goal[key].to(state[key])
        return self._energy(state[key], goal.expand(state.batch_size, *goal.shape[1:]))

    def _energy(self, latent: Tensor, goal: Tensor) -> Tensor:
        if callable(self.energy):
            return self.energy(latent, goal)
        difference = (latent - goal).flatten(1)
        return (difference.abs() if self.energy == "l1" else difference.square()).mean(1)


@dataclass(frozen=True)
class FunctionObjective:
    """A function ``(model, trajectory) -> scores [B]``; planners take the bare function as well."""

    function: Score

    def check(self, model: WorldModel) -> None:
        """Accept any model: the function knows what it needs."""

    def noise(
        self, model: WorldModel, batch_size: int, *, generator: torch.Generator, device: torch.device
    ) -> dict[str, Tensor]:
        """Draw nothing."""
        return {}

    def score(self, model: WorldModel, trajectory: Trajectory, noise: dict[str, Tensor]) -> Tensor:
        """What the function says, ``[B]``."""
        return self.function(model, trajectory)


def as_objective(given: Objective | Score | None) -> Objective:
    """Return an objective: the rewards if nothing is given. Raises ConfigurationError for anything else."""
    if given is None:
        return RewardObjective()
    if isinstance(given, type):
        raise ConfigurationError(f"{given.__name__} is a class: give an objective made from it, {given.__name__}(...)")
    if isinstance(given, (GoalObjective, RewardObjective, Objective)):  # a protocol is slow: it comes last
        return given
    if callable(given):
        return FunctionObjective(given)
    raise ConfigurationError(
        f"an objective is RewardObjective, GoalObjective or a function (model, trajectory) -> scores [B], "
        f"got a {type(given).__name__}"
    )
