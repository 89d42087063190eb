"""The same episodes towards goals, again and again: every policy meets the same starts and the same goals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from worldflux.envs import GoalEnv, Step
from worldflux.envs.skipping import each_step

Watch = Callable[[Step, np.ndarray], None]  # a row of every environment, and which of their episodes are under way


@dataclass(frozen=True)
class Tried:
    """How N episodes went: which were ``solved [N]``, in how many environment ``steps [N]`` (or until they ended)."""

    solved: np.ndarray
    steps: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Trials:
    """Episodes that are fixed by a seed, and by ``starts`` and ``goals`` ``[N, S]`` where these are given.

    An episode is solved when it is at its goal after any of its first ``budget`` steps.
    """

    env: GoalEnv
    seed: int
    budget: int
    starts: np.ndarray | None = None
    goals: np.ndarray | None = None

    def begin(self) -> Step:
        """Begin the episodes."""
        return self.env.reset(self.seed, starts=self.starts, goals=self.goals)

    def run(self, policy: Any, *, names: tuple[str, ...], frame_skip: int = 1, watch: Watch | None = None) -> Tried:
        """Act until every episode is solved, over, or out of budget; those that begin solved need no step.

        ``names`` are the observations the policy is shown; ``watch`` is called at every row before an action.
        """
        step, began = self.begin(), time.perf_counter()
        solved, steps = self.env.success(), np.zeros(len(step), np.int64)
        going, carry = ~solved, policy.initial(len(step))
        while going.any():
            if watch is not None:
                watch(step, going)
            obs = {name: torch.as_tensor(step.obs[name]) for name in names}
            first = torch.as_tensor(step.is_first)
            action, carry = policy(obs, carry, is_first=first, explore=False)
            for step in each_step(self.env, action.cpu().numpy(), frame_skip=frame_skip):
                steps = steps + going
                solved = solved | (going & self.env.success())
                going = going & ~solved & ~step.is_last & (steps < self.budget)
                if not going.any():
                    break
        return Tried(solved, steps, time.perf_counter() - began)
