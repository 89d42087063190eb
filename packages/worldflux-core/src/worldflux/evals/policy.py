"""How well a policy does in an environment, without the bias of stopping a vector of environments early."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.envs import RandomPolicy, VectorEnv
from worldflux.envs.acting import acting

if TYPE_CHECKING:
    from worldflux.core.policy import Policy
    from worldflux.envs import Step

MAX_EPISODE_STEPS = 10_000  # where an environment does not say how long its episodes may be
LONG = 1_000  # environment steps without an end that are worth a word, where it does not
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalResult:
    """Undiscounted returns and lengths (environment steps) of complete episodes, in the order of their
    environments.

    ``unfinished`` counts the episodes that were cut (``max_episode_steps``, ``max_steps``) or kept from starting.
    What those that were cut by then had earned is in ``cut_returns``, and in no mean: it is no episode's return.
    ``explore`` says whether the policy acted as it explores.
    """

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    seed: int | None = None
    unfinished: int = 0
    explore: bool = False
    cut_returns: tuple[float, ...] = ()

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

    @property
    def cut_mean(self) -> float:
        """The mean of what the episodes that were cut had earned by then (NaN without any)."""
        return float(np.mean(self.cut_returns)) if self.cut_returns else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values; a NaN becomes ``None``."""
        numbers = {name: getattr(self, name) for name in ("mean", "std", "min", "max", "mean_length", "cut_mean")}
        return {
            "episodes": self.episodes,
            **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "seed": self.seed,
            "unfinished": self.unfinished,
            "explore": self.explore,
            "cut_returns": list(self.cut_returns),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvalResult:
        """Return what ``to_dict`` made JSON-able. Raises TypeError or ValueError for anything else."""
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        kinds = {"returns": float, "lengths": int, "cut_returns": float}
        numbers = {name: tuple(map(kind, values.get(name, ()))) for name, kind in kinds.items()}  # type: ignore[arg-type]
        return cls(**{**known, **numbers})


def evaluate_policy(
    env: VectorEnv,
    policy: Policy,
    *,
    episodes: int = 20,
    explore: bool = False,
    seed: int | None = 0,
    max_steps: int | None = None,
    max_episode_steps: int | None = None,
    between_steps: Callable[[], None] | None = None,
) -> EvalResult:
    """Run ``episodes`` complete episodes and return their returns and lengths.

    Each of the N environments contributes a number fixed beforehand (``episodes`` divided as evenly as
    possible), so that short episodes are not over-represented, which they are when the first ``episodes`` to
    end are taken. An episode that has not ended after ``max_episode_steps`` is cut, and with it that environment's
    further ones; by default that is the longest the environment says an episode may be, or else 10,000.
    ``max_steps`` bounds the steps of each environment. The environment is reset with ``seed`` and left open.
    ``between_steps`` is called before every step; what it raises ends the evaluation.

    Raises:
        ConfigurationError: ``episodes``, ``max_steps`` or ``max_episode_steps`` is below 1.
    """
    check_arguments(env, policy)
    for name, value in (("episodes", episodes), ("max_steps", max_steps), ("max_episode_steps", max_episode_steps)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1
        if not whole and not (value is None and name != "episodes"):
            raise ConfigurationError(f"{name} is {value!r}, expected at least 1, and a whole number")
    own = getattr(env, "max_episode_steps", None)
    limit = max_episode_steps or own or MAX_EPISODE_STEPS
    remark = None if max_episode_steps else own or LONG
    tally = _Tally(env.num_envs, episodes, limit=limit, remark=remark)
    carry, step, steps = policy.initial(env.num_envs), env.reset(seed), 0
    while tally.add(step) and (max_steps is None or steps < max_steps):
        if between_steps is not None:
            between_steps()
        with torch.no_grad(), acting(policy):
            obs = {name: torch.as_tensor(value) for name, value in step.obs.items()}
            first = torch.as_tensor(step.is_first)
            action, carry = policy(obs, carry, is_first=first, explore=explore)
        step = env.step(action.cpu().numpy())
        steps += 1
    return tally.result(episodes, seed=seed, explore=explore)


class _Tally:
    """Returns and lengths by environment, and what is still to come."""

    def __init__(self, num_envs: int, episodes: int, *, limit: int, remark: int | None) -> None:
        self.quota = np.full(num_envs, episodes // num_envs) + (np.arange(num_envs) < episodes % num_envs)
        self.limit, self.remark = limit, remark  # remark: the length from which on an episode is worth a word
        self.returns: list[list[float]] = [[] for _ in range(num_envs)]
        self.lengths: list[list[int]] = [[] for _ in range(num_envs)]
        self.cut: dict[int, float] = {}
        self.total, self.length = np.zeros(num_envs, np.float64), np.zeros(num_envs, np.int64)
        self.going = self.open = self.quota > 0

    def add(self, step: Step) -> bool:
        """Take note of one row of every environment; return whether any has an episode to finish."""
        self.total = np.where(step.is_first, 0.0, self.total) + step.reward
        self.length = np.where(step.is_first, 0, self.length + 1)
        for i in np.flatnonzero(step.is_last & self.going):
            self.returns[i].append(float(self.total[i]))
            self.lengths[i].append(int(self.length[i]))
        wanted = np.array([len(ended) for ended in self.returns]) < self.quota
        self.open = self.going & ~step.is_last
        over = self.open & (self.length >= self.limit)
        self._remark_on(self.open)
        self._cut(over)
        self.going = self.going & wanted & ~over
        return bool(self.going.any())

    def _cut(self, which: np.ndarray) -> None:
        self.cut |= {int(i): float(self.total[i]) for i in np.flatnonzero(which)}

    def _remark_on(self, going: np.ndarray) -> None:
        longest = int(self.length[going].max(initial=0))
        if self.remark is not None and longest >= self.remark:
            self.remark = None
            logger.warning(
                "an episode has not ended after %d environment steps; an evaluation cuts it after %d. If its "
                "environment never ends one, wrap it in gymnasium.wrappers.TimeLimit", longest, self.limit,
            )  # fmt: skip

    def result(self, episodes: int, *, seed: int | None, explore: bool) -> EvalResult:
        """Return what came of it; whatever is still under way is cut here."""
        self._cut(self.going & self.open)
        return EvalResult(
            returns=tuple(x for per_env in self.returns for x in per_env),
            lengths=tuple(x for per_env in self.lengths for x in per_env),
            seed=seed,
            unfinished=episodes - sum(map(len, self.returns)),
            explore=explore,
            cut_returns=tuple(total for _, total in sorted(self.cut.items())),
        )


def check_arguments(env: Any, policy: Any) -> None:
    """Raise ConfigurationError for what is no environment of ours, or cannot act."""
    if not isinstance(env, VectorEnv):
        raise ConfigurationError(f"env is a {type(env).__name__}, expected a VectorEnv: worldflux.make_env makes one")
    if not callable(policy) or not callable(getattr(policy, "initial", None)):
        hint = "a policy, such as model.policy() or RandomPolicy(env.action_spec)"
        raise ConfigurationError(f"policy is a {type(policy).__name__}, expected {hint}")


def random_baseline(
    env: VectorEnv,
    *,
    episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    max_episode_steps: int | None = None,
    between_steps: Callable[[], None] | None = None,
) -> EvalResult:
    """Evaluate the policy that draws every action uniformly, the line any return is to be read against."""
    return evaluate_policy(
        env,
        RandomPolicy(env.action_spec, seed=seed),
        episodes=episodes,
        explore=True,
        seed=seed,
        max_steps=max_steps,
        max_episode_steps=max_episode_steps,
        between_steps=between_steps,
    )
