"""Who acts in environments for study where nothing is learned: the oracle, scripts, and chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError, did_you_mean

from .draws import Draws
from .env import StudyEnv
from .options import PREFIX
from .task import reach

POLICIES = ("oracle", "scripted", "straight", "random", "persistent", "mixed", "varied")
NOISE = 0.4  # deviation of what is added to a script's actions
LEG, PUSH = 60, 24  # steps after which a script takes up another target, reached or not: on its way, straight at it
HOLD = 8  # steps for which a persistent walk keeps its direction
TRIES = 20


class StudyPolicy:
    """Acts by an environment's true state; what it draws follows from the episodes' seeds. Implements ``core.Policy``.

    - ``oracle``: the shortest way to the goal, and nothing at it.
    - ``scripted``: noisily along the oracle's way to the goal, then to one other target after another; in two rooms
      each in the other room.
    - ``straight``: noisily straight at the same targets, whatever stands in the way: who learns from it sees what
      walls do, everywhere along them.
    - ``random``: uniform actions. ``persistent``: a direction and a speed kept for eight steps.
    - ``mixed``: by chance half of the episodes scripted, the others persistent.
    - ``varied``: by chance half of the episodes scripted, a quarter straight, the others persistent.

    Raises:
        ConfigurationError: there is no such policy, or ``env`` is no environment for study.
    """

    latent_spec: dict[str, tuple[tuple[int, ...], str]] = {}

    def __init__(self, name: str, env: Any, *, seed: int = 0) -> None:
        self._name, self._env, self._seed = _known(name), _inner(name, env), seed

    def initial(self, batch_size: int) -> dict[str, Tensor]:
        """Return a carry: where each episode is going, how many targets it had, and since when it has this one."""
        target = torch.zeros(batch_size, len(self._env.state_names), dtype=torch.float64)
        return {"target": target, **{name: torch.zeros(batch_size, dtype=torch.int64) for name in ("legs", "since")}}

    def __call__(
        self, obs: dict[str, Tensor], carry: dict[str, Tensor], *, is_first: Tensor, explore: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return actions ``[N, 2]`` for the environment's last rows; ``obs`` and ``explore`` make no difference."""
        env, draws = self._env, self._env.draws.salted(self._seed)
        if self._name == "oracle":
            return _tensor(env.oracle()), carry
        if self._name == "random":
            return _tensor(2 * draws.uniform("random", env.time, 2) - 1), carry
        walk = _persistent(draws, env.time)
        if self._name == "persistent":
            return _tensor(walk), carry
        walking = {"mixed": 0.5, "varied": 0.25}.get(self._name, 0.0)
        straying = {"varied": 0.5, "straight": 1.0}.get(self._name, 0.0)
        which = draws.uniform("mixed", 0)
        walks, straight = which < walking, which < straying
        held = {name: part.numpy() for name, part in carry.items()}
        going, after = self._scripted(draws, held, is_first.numpy(), straight)
        return _tensor(np.where(walks[:, None], walk, going)), after

    def latents(self, carry: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return nothing: there are none."""
        return {}

    def _scripted(
        self, draws: Draws, carry: dict[str, np.ndarray], first: np.ndarray, straight: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Tensor]]:
        env, states = self._env, self._env.states()
        target = np.where(first[:, None], env.goal_states(), carry["target"])
        legs, since = np.where(first, 0, carry["legs"]), np.where(first, env.time, carry["since"])
        there = env.task.gap(states, target) < env.options.radius
        over = (there | (env.time - since >= np.where(straight, PUSH, LEG))) & ~first
        legs, since = legs + over, np.where(over, env.time, since)
        if over.any():
            target = np.where(over[:, None], self._another(draws, states, legs), target)
        ahead = reach(target[:, :2] - states[:, :2], env.looks["speed"])
        noisy = np.where(straight[:, None], ahead, env.oracle(target)) + NOISE * draws.bumps("script", env.time, 2)
        after = {"target": target, "legs": legs, "since": since}
        return np.clip(noisy, -1, 1), {name: torch.from_numpy(np.array(part)) for name, part in after.items()}

    def _another(self, draws: Draws, states: np.ndarray, legs: np.ndarray) -> np.ndarray:
        task, looks = self._env.task, self._env.looks
        target, left = states.copy(), np.ones(len(states), bool)
        for trial in range(TRIES):
            aim = task.place(draws, "script target", legs * TRIES + trial, looks)
            good = left & task.valid(aim, looks) & task.allowed(task.goal_kinds[-1], states, aim)
            target, left = np.where(good[:, None], aim, target), left & ~good
        return target


def _known(name: str) -> str:
    bare = name.lower().removeprefix(PREFIX)
    if bare not in POLICIES:
        known = [PREFIX + one for one in POLICIES]
        raise ConfigurationError(
            f"unknown policy {name!r}, expected one of {known}.{did_you_mean(PREFIX + bare, known)}"
        )
    return bare


def _inner(name: str, env: Any) -> StudyEnv:
    inner = env
    while not isinstance(inner, StudyEnv):  # under stacked frames, say
        inner = getattr(inner, "_env", None)
        if inner is None:
            raise ConfigurationError(
                f"policy {name!r} acts by the true state of an environment for study, such as study:two-room, and "
                f"{type(env).__name__} is none"
            )
    return inner


def _persistent(draws: Draws, time: np.ndarray) -> np.ndarray:
    phase = (draws.uniform("phase", 0) * HOLD).astype(np.int64)
    angle, speed = draws.uniform("persistent", (time + phase) // HOLD, 2).T
    angle = np.ascontiguousarray(2 * np.pi * angle)
    return (0.3 + 0.7 * speed)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _tensor(actions: np.ndarray) -> Tensor:
    return torch.from_numpy(actions.astype(np.float32))
