"""Where episodes begin and where they are to end."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError

from .draws import Draws
from .factors import Factors, Looks
from .options import StudyOptions
from .task import Array, Task

TRIES = 500


class Beginnings:
    """Draws starts and goals that are not given; ``solved`` counts the pairs that were drawn in vain."""

    def __init__(self, env: str, task: Task, options: StudyOptions, factors: Factors) -> None:
        self._env, self._task, self._options, self._factors = env, task, options, factors
        self.solved = 0

    def __call__(self, draws: Draws, starts: Any, goals: Any) -> tuple[Looks, Array, Array]:
        """Return the factors, starts and goals of the episodes that have these draws.

        Raises:
            ConfigurationError: what is given cannot be, or no goal is found.
        """
        looks = self._factors.drawn(draws)
        given = {name: self._checked(name, value, len(draws)) for name, value in (("starts", starts), ("goals", goals))}
        for states in given.values():  # a start says what world it is, and so does a goal
            if states is not None:
                looks = self._task.adopt(looks, states)
        for name, states in given.items():
            if states is not None:
                self._possible(name, states, looks)
        if given["starts"] is not None and given["goals"] is not None:
            self._one_world(given["starts"], given["goals"])
            return looks, given["starts"], given["goals"]
        return looks, *self._drawn(draws, looks, given["starts"], given["goals"])

    def _drawn(self, draws: Draws, looks: Looks, starts: Array | None, goals: Array | None) -> tuple[Array, Array]:
        task, kind = self._task, self._options.goal
        shape = (len(draws), len(task.state_names))
        begun, ends = np.zeros(shape), np.zeros(shape)
        left = np.arange(len(draws))
        for trial in range(TRIES):
            mine, some = draws.rows(left), {name: values[left] for name, values in looks.items()}
            one = task.place(mine, "start", trial, some) if starts is None else starts[left]
            other = self._goal(mine, trial, one, some) if goals is None else goals[left]
            possible = task.valid(one, some) & task.valid(other, some) & task.allowed(kind, one, other)
            solved = possible & (task.gap(one, other) < self._options.radius)
            self.solved += int(solved.sum())
            good = possible & ~solved
            begun[left[good]], ends[left[good]] = one[good], other[good]
            left = left[~good]
            if not len(left):
                return begun, ends
        more = ", a larger goal_offset" if kind == "offset" else ""
        raise ConfigurationError(
            f"{self._env}: in {TRIES} draws no goal ({kind}) was found that is not reached at the start (radius "
            f"{self._options.radius:g}): give a smaller radius{more}, or other starts or goals"
        )

    def _goal(self, draws: Draws, trial: int, starts: Array, looks: Looks) -> Array:
        task, aims = self._task, self._task.place(draws, "goal", trial, looks)
        if self._options.goal != "offset":
            return aims
        usable = task.valid(starts, looks) & task.valid(aims, looks)  # the others are drawn again anyway
        states = np.where(usable[:, None], starts, aims)
        for _ in range(self._options.goal_offset):
            states = task.move(states, task.oracle(states, aims, looks), looks)
        return np.where(usable[:, None], states, starts)

    def _checked(self, name: str, given: Any, num: int) -> Array | None:
        if given is None:
            return None
        states = np.asarray(given, np.float64)
        names = self._task.state_names
        if states.shape != (num, len(names)) or not np.isfinite(states).all():
            raise ConfigurationError(
                f"{self._env}: {name} is of shape {states.shape}, expected ({num}, {len(names)}) finite numbers: "
                f"{', '.join(names)} for each environment"
            )
        return states.copy()

    def _possible(self, name: str, states: Array, looks: Looks) -> None:
        wrong = np.flatnonzero(~self._task.valid(states, looks))
        if len(wrong):
            told = dict(zip(self._task.state_names, states[wrong[0]].round(4).tolist(), strict=True))
            raise ConfigurationError(
                f"{self._env}: {name}[{wrong[0]}] is {told}, which is inside a wall or another thing, or outside: take "
                "states that the environment gave, or places in the free space"
            )

    def _one_world(self, starts: Array, goals: Array) -> None:
        wrong = np.flatnonzero(~self._task.same_world(starts, goals))
        if len(wrong):
            i, names = int(wrong[0]), ", ".join(self._task.state_names)
            raise ConfigurationError(
                f"{self._env}: starts[{i}] and goals[{i}] are of different worlds, {starts[i].round(4).tolist()} and "
                f"{goals[i].round(4).tolist()} ({names}): nothing leads from one to the other"
            )
