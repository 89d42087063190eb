"""An environment for study as Gymnasium's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from worldflux.core.errors import ConfigurationError, did_you_mean

from ..goals import Goals
from ..step import Step
from .env import StudyEnv
from .gym_spaces import action_space, dict_space

_RESET = ("start", "goal")


class StudyGymEnv(gymnasium.Env):
    """One environment for study. Observations are a Dict of ``image [3, size, size]`` uint8 and ``state``, as asked.

    ``reset(seed=..., options={"start": state, "goal": state})`` begins there and asks for that; either may be left out.
    ``info`` has the parts of the true state by name, as ``info_space`` declares, and of the goal: ``state``, ``goal``
    (what an observation there shows), ``goal_state``, ``success`` and ``distance``.

    Args:
        name: "study:two-room", say.
        options: see :class:`~worldflux.envs.study.StudyOptions`; also ``vary`` and factors by name.

    Raises:
        ConfigurationError: there is no such environment or option, or a value is wrong.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, name: str, *, options: Mapping[str, Any] | None = None, render_mode: str | None = None) -> None:
        self._study = StudyEnv(name, options=options)
        self.render_mode = render_mode
        self.observation_space = dict_space(self._study.obs_spec, bound=1)
        self.info_space = dict_space(self._study.info_spec, bound=255)
        self.action_space = action_space()
        self.state_space = Box(-np.inf, np.inf, (len(self._study.state_names),), np.float64)
        self.state_names, self.about = self._study.state_names, self._study.about
        self._goals: Goals | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin an episode; see ``gymnasium.Env.reset``. Raises ConfigurationError for states that cannot be."""
        super().reset(seed=seed)
        for name in options or {}:
            if name not in _RESET:
                near = did_you_mean(name, _RESET)
                raise ConfigurationError(f"reset has no option {name!r}, it has {list(_RESET)}.{near}")
        begin, goal = (None if (value := (options or {}).get(name)) is None else [value] for name in _RESET)
        own = int(self.np_random.integers(1 << 62)) if seed is None else seed
        step = self._study.reset([own], starts=begin, goals=goal)  # type: ignore[arg-type]
        self._goals = self._study.goals()
        return self._row(step)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Take an action; see ``gymnasium.Env.step``. The time limit cuts an episode, nothing ends it."""
        step = self._study.step(np.asarray(action)[None])
        obs, info = self._row(step)
        return obs, float(step.reward[0]), False, bool(step.is_last[0]), info

    def render(self) -> np.ndarray:
        """Return the picture ``[size, size, 3]`` uint8."""
        return self._study.picture()[0].transpose(1, 2, 0)

    def oracle(self) -> np.ndarray:
        """Return the best action ``[2]`` towards the goal."""
        return self._study.oracle()[0].astype(np.float32)

    def _row(self, step: Step) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        assert self._goals is not None
        info = {
            **{name: values[0] for name, values in step.infos.items()},
            "state": self._study.states()[0],
            "goal": {name: values[0].copy() for name, values in self._goals.obs.items()},
            "goal_state": self._goals.state[0].copy(),
            "success": bool(self._study.success()[0]),
            "distance": float(self._study.distance()[0]),
        }
        return {name: values[0] for name, values in step.obs.items()}, info
