"""Stretches of real experience without an episode boundary, recorded to compare imagination with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.envs.acting import acting
from worldflux.words.counts import counted

if TYPE_CHECKING:
    from worldflux.core.policy import Policy
    from worldflux.envs import Step, VectorEnv

Rows = dict[str, np.ndarray]
Row = tuple[Rows, np.ndarray, float, bool, Rows]  # observations, action, reward, is_terminal, infos


@dataclass(frozen=True)
class Segments:
    """B stretches of T rows in the arrival convention, each within one episode.

    ``obs[name]`` [B, T, ...] as stored, ``actions`` [B, T, A] (flat), ``rewards`` [B, T], ``is_terminal`` [B, T].
    Where they are known: ``episodes`` [B] tells which stretches are of one episode; ``shown`` [B, T] which rows'
    observations are their own (a stand-in's is not); ``info[name]`` [B, T, ...] what else the rows hold.
    ``has_rewards`` is False where ``rewards`` are zeros because the data has none.
    """

    obs: dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    is_terminal: np.ndarray
    episodes: np.ndarray | None = None
    shown: np.ndarray | None = None
    info: Mapping[str, np.ndarray] = field(default_factory=dict)
    has_rewards: bool = True

    @property
    def sequences(self) -> int:
        """B."""
        return int(self.rewards.shape[0])

    @property
    def rows(self) -> int:
        """T."""
        return int(self.rewards.shape[1])


def record_segments(
    env: VectorEnv,
    policy: Policy,
    *,
    sequences: int,
    rows: int,
    explore: bool = True,
    seed: int = 0,
    max_steps: int | None = None,
) -> Segments:
    """Run ``policy`` and return ``sequences`` stretches of ``rows`` rows.

    An episode gives one stretch, at a place drawn uniformly; one longer than twice ``rows`` is treated as
    several. The default ``max_steps`` is 200 times ``rows`` for each environment.

    Raises:
        ConfigurationError: within ``max_steps`` too few episodes were long enough, or none of the first many.
    """
    limit, patience = max_steps or 200 * rows, 32 + 4 * sequences
    rng = np.random.default_rng(seed)
    episodes: list[list[Row]] = [[] for _ in range(env.num_envs)]
    kept: list[list[Row]] = []
    longest = ended = 0
    carry, step = policy.initial(env.num_envs), env.reset(seed)
    for _ in range(limit):
        with torch.no_grad(), acting(policy):
            obs = {name: torch.as_tensor(value) for name, value in step.obs.items()}
            first = torch.as_tensor(step.is_first)
            action, carry = policy(obs, carry, is_first=first, explore=explore)
        actions = action.cpu().numpy()
        for i, episode in enumerate(episodes):
            if step.is_first[i]:
                episode.clear()
            episode.append(_row(step, actions, i))
            longest = max(longest, len(episode))
            if len(episode) >= rows and (step.is_last[i] or len(episode) == 2 * rows):
                start = int(rng.integers(len(episode) - rows + 1))
                kept.append(episode[start : start + rows])
                episode.clear()
            ended += int(step.is_last[i])
            if len(kept) == sequences:
                return _stack(kept)
        if not kept and ended >= patience:
            break
        step = env.step(actions)
    raise ConfigurationError(
        f"of {counted(ended, 'episode')} too few had {counted(rows, 'row')} (context + horizon), {sequences} were "
        "asked for and the longest "
        f"had {longest}: ask for a shorter horizon or fewer sequences"
    )


def _row(step: Step, actions: np.ndarray, i: int) -> Row:
    obs = {name: np.array(value[i]) for name, value in step.obs.items()}
    infos = {name: np.array(value[i]) for name, value in step.infos.items()}
    return obs, np.array(actions[i], np.float32), float(step.reward[i]), bool(step.is_terminal[i]), infos


def _stack(kept: list[list[Row]]) -> Segments:
    obs, actions, rewards, terminal, info = zip(*(map(_gathered, zip(*rows)) for rows in kept))
    return Segments(
        obs={name: np.stack([one[name] for one in obs]) for name in obs[0]},
        actions=np.stack(actions),
        rewards=np.array(rewards, np.float32),
        is_terminal=np.array(terminal, bool),
        info={name: np.stack([one[name] for one in info]) for name in info[0]},
    )


def _gathered(column: tuple[Any, ...]) -> Any:
    """One thing of all rows of a stretch, ``[T, ...]``; by name where it has names."""
    if isinstance(column[0], dict):
        return {name: np.stack([row[name] for row in column]) for name in column[0]}
    return np.stack(column)
