"""Gymnasium environments whose episodes have goals, in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError

from .goals import Goals
from .identity import innermost
from .infos import declared
from .pixels import PixelEnv
from .spaces import as_array
from .step import Step
from .vector import Row, SyncVectorEnv

TOLD = ("state", "goal_state", "goal", "success")


def has_goals(env: Any) -> bool:
    """Tell whether a Gymnasium environment says that its episodes have goals: it has a ``state_space``."""
    return not isinstance(env, PixelEnv) and declared(env, "state_space") is not None


class GoalVectorEnv(SyncVectorEnv):
    """N Gymnasium environments with goals. Implements :class:`~worldflux.envs.GoalEnv`.

    Each declares a Box ``state_space [S]``, takes ``reset(options={"start": state, "goal": state})`` with either left
    out, and has in every ``info`` ``state`` and ``goal_state [S]``, ``goal`` (an observation there) and ``success``;
    ``distance`` where it knows it. ``state_names`` may be an attribute of its own.

    Raises:
        ConfigurationError: ``state_space`` is no Box of one axis; see also ``SyncVectorEnv``.
    """

    def __init__(self, env_fns: Sequence[Callable[[], Any]], *, seed: int = 0, image_size: int | None = None) -> None:
        super().__init__(env_fns, seed=seed, image_size=image_size)
        space = declared(self._envs[0], "state_space")
        if len(getattr(space, "shape", None) or ()) != 1:
            raise ConfigurationError(f"state_space is {space}, expected a Box of one axis, such as Box(0, 1, (4,))")
        self._width = int(space.shape[0])
        self._asked: list[dict[str, Any]] = [{} for _ in self._envs]  # of the next episodes
        self._told: Sequence[Any] = ()

    @property
    def state_names(self) -> tuple[str, ...]:
        """What the S numbers of a state are."""
        names = declared(self._envs[0], "state_names")
        return tuple(names) if names is not None else tuple(f"state_{i}" for i in range(self._width))

    @property
    def about(self) -> dict[str, Any]:
        """Return which environment this is, for the card of a number: its id, or its class; it may say so itself."""
        first = self._envs[0]
        told = declared(first, "about")
        if isinstance(told, Mapping):
            return dict(told)
        return {"name": getattr(getattr(first, "spec", None), "id", None) or type(innermost(first)).__name__}

    @property
    def solved_at_start(self) -> int:
        """Zero: what such environments leave out by themselves they do not say."""
        return 0

    def reset(
        self,
        seed: int | Sequence[int] | None = None,
        *,
        starts: np.ndarray | None = None,
        goals: np.ndarray | None = None,
    ) -> Step:
        """Begin a new episode everywhere; see ``GoalEnv.reset``.

        Raises:
            ConfigurationError: seeds, starts or goals are not one for each environment. EnvironmentFailure.
        """
        seeds = None if seed is None or isinstance(seed, (int, np.integer)) else list(seed)
        if seeds is not None and len(seeds) != self.num_envs:
            raise ConfigurationError(f"seed is {seed!r}, expected a whole number, or one for each of {self.num_envs}")
        given = {"start": self._states("starts", starts), "goal": self._states("goals", goals)}
        for i in range(self.num_envs):
            options = {name: states[i] for name, states in given.items() if states is not None}
            self._asked[i] = {"options": options} if options else {}
            self._asked[i] |= {} if seeds is None else {"seed": int(seeds[i])}
        return super().reset(None if seeds is not None else seed)  # type: ignore[arg-type]

    def states(self) -> np.ndarray:
        """The true states ``[N, S]``."""
        return self._numbers("state")

    def goals(self) -> Goals:
        """The goals, as they would be observed and as states."""
        return Goals(self._observe([info["goal"] for info in self._told]), self._numbers("goal_state"))

    def success(self) -> np.ndarray:
        """Whether each row is at its goal, ``[N]``."""
        return np.array([bool(as_array(info["success"])) for info in self._told])

    def distance(self) -> np.ndarray:
        """How far each row is from its goal, ``[N]``; NaN where an environment does not say."""
        return np.array([float(as_array(info.get("distance", np.nan))) for info in self._told])

    def _reset_with(self, i: int) -> dict[str, Any]:
        asked, self._asked[i] = self._asked[i], {}
        return super()._reset_with(i) | asked

    def _row(self, rows: list[Row]) -> Step:
        self._told = [row[-1] for row in rows]
        for i, info in enumerate(self._told):
            missing = [name for name in TOLD if name not in info]
            if missing:
                raise ValidationError(f"environment {i} has a state_space, but its info has no {missing[0]!r}")
        return super()._row(rows)

    def _numbers(self, name: str) -> np.ndarray:
        rows = [np.asarray(as_array(info[name]), np.float64) for info in self._told]
        for i, row in enumerate(rows):
            if row.shape != (self._width,):
                message = f"environment {i}: info {name!r} is not of its state_space"
                raise ShapeMismatchError(message, expected=(self._width,), got=row.shape)
        return np.stack(rows)

    def _states(self, name: str, given: Any) -> np.ndarray | None:
        if given is None:
            return None
        states = np.asarray(given, np.float64)
        expected = (self.num_envs, self._width)
        if states.shape != expected or not np.isfinite(states).all():
            raise ConfigurationError(f"{name} is of shape {states.shape}, expected finite numbers {expected}")
        return states
