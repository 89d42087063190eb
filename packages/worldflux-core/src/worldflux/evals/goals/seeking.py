"""Planning towards one goal that was given: how near it gets, by the energy it plans with, beside chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.envs import PersistentPolicy, RandomPolicy, VectorEnv
from worldflux.envs.skipping import each_step
from worldflux.planners import GoalObjective, Planner, PlannerPolicy, StateGoal, described

from ..unroll import judging
from .probe import LinearProbe


@dataclass(frozen=True)
class GoalSought:
    """The energy of a goal in N episodes, by who acts (``planned``, ``uniform``, ``persistent``): at the ``first`` row,
    at the ``nearest`` and at the ``last`` one, ``[N]`` each."""

    card: Mapping[str, Any]
    energies: Mapping[str, Mapping[str, np.ndarray]]

    def to_dict(self) -> dict[str, Any]:
        """Return the means, and the card, as JSON-able values."""
        means = {
            who: {at: float(values.mean()) for at, values in found.items()} for who, found in self.energies.items()
        }
        return {"card": dict(self.card), "energy": means, "in_words": self._words(means)}

    def _words(self, means: Mapping[str, Mapping[str, float]]) -> list[str]:
        own, chance = means["planned"]["last"], min(means["uniform"]["last"], means["persistent"]["last"])
        said = []
        if own >= means["planned"]["first"]:
            said.append("Planning ends no nearer to the goal than it began.")
        if own >= chance:
            said.append(f"It ends no nearer than acting at random does (energy {own:.4g} to {chance:.4g}).")
        return said


def seek_goal(
    model: WorldModel,
    env: VectorEnv,
    objective: GoalObjective | StateGoal,
    *,
    planner: Planner,
    budget: int | None = None,
    execute: int = 1,
    frame_skip: int = 1,
    seed: int = 0,
    goal: str = "given",
) -> GoalSought:
    """Plan towards a goal of one row for ``budget`` steps in every environment, and note how near that leads.

    Raises:
        ConfigurationError: there is no end to the episodes and no budget; model, planner and objective do not fit.
    """
    budget = budget or getattr(env, "max_episode_steps", None)
    if budget is None:
        raise ConfigurationError("the environment does not say how long its episodes are: give a budget of steps")
    policies = {
        "planned": (PlannerPolicy(model, planner, objective, execute=execute), frame_skip),
        "uniform": (RandomPolicy(env.action_spec, seed=seed), 1),
        "persistent": (PersistentPolicy(env.action_spec, seed=seed), 1),
    }
    with judging(model):
        found = {
            who: _followed(model, env, policy, objective, budget=budget, frame_skip=skip, seed=seed)
            for who, (policy, skip) in policies.items()
        }
    card = {
        "goal": goal,
        "planner": described(planner),
        "budget": budget,
        "execute": execute,
        "frame_skip": frame_skip,
        "episodes": env.num_envs,
        "seed": seed,
    }
    probe = getattr(objective, "probe", None)
    return GoalSought(card | ({"probe_r2": probe.r2} if isinstance(probe, LinearProbe) else {}), found)


def _followed(
    model: WorldModel, env: VectorEnv, policy: Any, objective: Any, *, budget: int, frame_skip: int, seed: int
) -> dict[str, np.ndarray]:
    names = tuple(model.io_contract().effective_input_spec.modalities) or tuple(env.obs_spec)
    device = next(model.parameters()).device

    def energy(obs: Mapping[str, np.ndarray]) -> np.ndarray:
        state = model.encode({n: torch.as_tensor(obs[n], device=device) for n in names}, deterministic=True)
        return np.asarray(objective.energy_of(state).float().cpu().numpy().reshape(-1), np.float64)

    step, carry, steps = env.reset(seed), policy.initial(env.num_envs), 0
    first = last = nearest = energy(step.obs)
    going = np.ones(env.num_envs, bool)
    while going.any() and steps < budget:
        obs = {name: torch.as_tensor(step.obs[name]) for name in names}
        action, carry = policy(obs, carry, is_first=torch.as_tensor(step.is_first), explore=False)
        for step in each_step(env, action.cpu().numpy(), frame_skip=frame_skip):
            steps += 1
            last = np.where(going, energy(step.obs), last)
            nearest, going = np.minimum(nearest, last), going & ~step.is_last
            if not going.any() or steps >= budget:
                break
    return {"first": first, "nearest": nearest, "last": last}
