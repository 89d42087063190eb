"""How well a policy does in an environment, without the bias of stopping a vector of environments early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.envs import RandomPolicy
from worldflux.envs.acting import acting

if TYPE_CHECKING:
    from worldflux.core.policy import Policy
    from worldflux.envs import VectorEnv


@dataclass(frozen=True)
class EvalResult:
    """Undiscounted returns and lengths (environment steps) of complete episodes, in the order of their
    environments.

    ``unfinished`` counts the episodes that ``max_steps`` cut or kept from starting; they have no return. ``explore``
    says whether the policy acted as it explores.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seed: int | None = None
    unfinished: int = 0
    explore: bool = False

    @property
    def episodes(self) -> int:
        """The number of complete episodes."""
        return len(self.returns)

    @property
    def mean(self) -> float:
        """The mean return (NaN without episodes)."""
        return float(np.mean(self.returns)) if self.returns else float("nan")

    @property
    def std(self) -> float:
        """The standard deviation of the returns over episodes (``ddof=0``; NaN without episodes)."""
        return float(np.std(self.returns)) if self.returns else float("nan")

    @property
    def min(self) -> float:
        """The lowest return."""
        return min(self.returns, default=float("nan"))

    @property
    def max(self) -> float:
        """The highest return."""
        return max(self.returns, default=float("nan"))

    @property
    def mean_length(self) -> float:
        """The mean episode length in environment steps."""
        return float(np.mean(self.lengths)) if self.lengths else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; a NaN becomes ``None``."""
        numbers = {name: getattr(self, name) for name in ("mean", "std", "min", "max", "mean_length")}
        return {
            "episodes": self.episodes,
            **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "seed": self.seed,
            "unfinished": self.unfinished,
            "explore": self.explore,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvalResult:
        """Return what ``to_dict`` made JSON-able. Raises KeyError or TypeError for anything else."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        numbers = {name: tuple(map(kind, values[name])) for name, kind in (("returns", float), ("lengths", int))}
        return cls(**{**known, **numbers})


def evaluate_policy(
    env: VectorEnv,
    policy: Policy,
    *,
    episodes: int = 20,
    explore: bool = False,
    seed: int | None = 0,
    max_steps: int | None = None,
) -> EvalResult:
    """Run exactly ``episodes`` complete episodes and return their returns and lengths.

    Each of the N environments contributes a number fixed beforehand (``episodes`` divided as evenly as
    possible), so that short episodes are not over-represented, which they are when the first ``episodes`` to
    end are taken. ``max_steps`` bounds the steps of each environment; what it cuts is counted in
    ``unfinished`` only. The environment is reset with ``seed`` and left open.

    Raises:
        ConfigurationError: ``episodes`` or ``max_steps`` is below 1.
    """
    for name, value in (("episodes", episodes), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} is {value}, expected at least 1")
    num_envs = env.num_envs
    quota = np.full(num_envs, episodes // num_envs) + (np.arange(num_envs) < episodes % num_envs)
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    lengths: list[list[int]] = [[] for _ in range(num_envs)]
    total, length = np.zeros(num_envs, np.float64), np.zeros(num_envs, np.int64)

    carry, step, steps = policy.initial(num_envs), env.reset(seed), 0
    while True:
        fresh = step.is_first
        total = np.where(fresh, 0.0, total) + step.reward
        length = np.where(fresh, 0, length + 1)
        for i in np.flatnonzero(step.is_last):
            if len(returns[i]) < quota[i]:
                returns[i].append(float(total[i]))
                lengths[i].append(int(length[i]))
        done = sum(map(len, returns))
        if done == episodes or (max_steps is not None and steps >= max_steps):
            break
        with torch.no_grad(), acting(policy):
            obs = {name: torch.as_tensor(value) for name, value in step.obs.items()}
            first = torch.as_tensor(step.is_first)
            action, carry = policy(obs, carry, is_first=first, explore=explore)
        step = env.step(action.cpu().numpy())
        steps += 1
    return EvalResult(
        returns=tuple(x for per_env in returns for x in per_env),
        lengths=tuple(x for per_env in lengths for x in per_env),
        seed=seed,
        unfinished=episodes - done,
        explore=explore,
    )


def random_baseline(env: VectorEnv, *, episodes: int = 20, seed: int = 0, max_steps: int | None = None) -> EvalResult:
    """Evaluate the policy that draws every action uniformly, the line any return is to be read against."""
    policy = RandomPolicy(env.action_spec, seed=seed)
    return evaluate_policy(env, policy, episodes=episodes, explore=True, seed=seed, max_steps=max_steps)
