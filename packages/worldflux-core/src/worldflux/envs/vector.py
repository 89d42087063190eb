"""Gymnasium environments in lockstep, each reset when its own episode is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError, ConfigurationError, TrainingError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from .closing import close_all
from .identity import refuse_shared
from .infos import InfoAdapter
from .limits import episode_limit
from .spaces import ActionAdapter, ObservationAdapter, as_array
from .step import Step

Row = tuple[Any, float, bool, bool, bool, Any]  # observation, reward, first, terminal, last, info
_MAX_LOG = 100_000  # actions kept per episode for `state_dict`; longer episodes begin anew on resume


class EnvironmentFailure(TrainingError):
    """An environment raised; ``env_index`` says which (None if the vector does not tell).

    After one that is ``lost`` no ``reset`` helps: the environments must be made anew.
    """

    def __init__(self, message: str, *, env_index: int | None = None, lost: bool = False) -> None:
        super().__init__(message)
        self.env_index, self.lost = env_index, lost


def episode_seed(seed: int, env: int, episode: int) -> int:
    """Return the seed of one episode: a function of the run's seed, the environment and the episode's number."""
    return int(np.random.SeedSequence(entropy=seed, spawn_key=(env, episode)).generate_state(1)[0])


def _are_whole(numbers: list[Any], least: int) -> bool:
    return all(type(number) is int and number >= least for number in numbers)


class SyncVectorEnv:
    """N Gymnasium environments, stepped one after the other in this process.

    Every episode is reset with a seed of its own (:func:`episode_seed`), so an episode is a function of its seed and
    the actions taken: :meth:`state_dict` is these two, and loading it plays the open episodes again. Stepping
    Gymnasium's own vector would step every environment, those just reset included; this one resets some while the
    others go on.

    ``image_size`` makes every observed image that many pixels a side. What the environments declare in an attribute
    ``info_space`` (a Dict space) becomes the steps' ``infos``.

    Raises:
        ConfigurationError: no environments, environments with different spaces, or the same one twice.
    """

    def __init__(self, env_fns: Sequence[Callable[[], Any]], *, seed: int = 0, image_size: int | None = None) -> None:
        if not env_fns:
            raise ConfigurationError("a vector of environments needs at least one")
        self._envs = [make() for make in env_fns]
        refuse_shared(self._envs)
        first = self._envs[0]
        for i, env in enumerate(self._envs):
            if env.observation_space != first.observation_space or env.action_space != first.action_space:
                raise ConfigurationError(
                    f"environment {i} has spaces {env.observation_space}, {env.action_space}, but environment 0 has "
                    f"{first.observation_space}, {first.action_space}: a vector needs equal ones"
                )
        self._observe = ObservationAdapter(first.observation_space, image_size=image_size)
        self._act = ActionAdapter(first.action_space)
        self._tell = InfoAdapter(first)
        self._seed = seed
        self._episodes = np.zeros(len(self._envs), np.int64)  # episodes begun
        self._actions: list[list[np.ndarray]] = [[] for _ in self._envs]
        self._over: np.ndarray | None = None  # None before the first reset

    @property
    def num_envs(self) -> int:
        """How many environments there are."""
        return len(self._envs)

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name."""
        return self._observe.spec

    @property
    def info_spec(self) -> Mapping[str, ModalitySpec]:
        """What else rows have, by name."""
        return self._tell.spec

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action."""
        return self._act.spec

    @property
    def single_observation_space(self) -> Any:
        """The space of what one environment shows."""
        return self._envs[0].observation_space

    @property
    def single_action_space(self) -> Any:
        """The space of one environment's own action."""
        return self._envs[0].action_space

    @property
    def max_episode_steps(self) -> int | None:
        """The most steps an episode may have; None where the environments do not say."""
        return episode_limit(self._envs)

    def reset(self, seed: int | None = None) -> Step:
        """Begin a new episode everywhere; a seed restarts the sequence of episodes. Raises EnvironmentFailure."""
        if seed is not None:
            self._seed = seed
            self._episodes[:] = 0
        unused = np.zeros((self.num_envs, self.action_spec.dim), np.float32)
        return self._advance(unused, np.ones(self.num_envs, bool))

    def step(self, actions: np.ndarray) -> Step:
        """Take flat actions ``[N, A]``; environments whose last row was ``is_last`` begin anew instead.

        Raises:
            ShapeMismatchError, ValidationError: the actions are not ``[N, A]`` finite numbers.
            EnvironmentFailure: an environment raised; call ``reset`` to go on with new episodes.
        """
        if self._over is None:
            return self.reset()
        return self._advance(self._act.check(actions, self.num_envs), self._over)

    def cut(self, which: np.ndarray) -> None:
        """End the open episodes of some environments ``[N]`` here: the next ``step`` begins theirs anew."""
        if self._over is not None:
            self._over = self._over | which

    def close(self) -> None:
        """Close every environment; one that raises is logged, and the others are closed all the same."""
        close_all(self._envs)

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the seed, the episode numbers and the actions of the open episodes."""
        arrays = {
            f"actions/{i}": np.array(log, np.float32).reshape(-1, self.action_spec.dim)
            for i, log in enumerate(self._actions)
        }
        over = self._over.tolist() if self._over is not None else None
        return arrays, {"seed": self._seed, "episodes": self._episodes.tolist(), "over": over}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Step | None:
        """Play the saved open episodes again and return the row they end on; None if one was too long to keep.

        Raises:
            ConfigurationError: the state is of another number of environments. CheckpointError: it is damaged; nothing
                changes then. EnvironmentFailure.
        """
        self._check_saved(arrays, meta)
        self._seed = int(meta["seed"])
        self._episodes[:] = meta["episodes"]
        if meta["over"] is None or any(len(log) >= _MAX_LOG for log in arrays.values()):
            return None
        rows = [self._replay(i, np.asarray(arrays[f"actions/{i}"])) for i in range(self.num_envs)]
        self._over = np.array(meta["over"])
        return self._row(rows)

    def _check_saved(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        episodes, over = meta.get("episodes"), meta.get("over")
        least = 0 if over is None else 1
        if isinstance(episodes, list) and len(episodes) != self.num_envs:
            raise ConfigurationError(
                f"the saved state has {counted(len(episodes), 'environment')}, this vector {self.num_envs}"
            )
        damaged = [
            *([] if _are_whole([meta.get("seed")], 0) else ["seed"]),
            *([] if isinstance(episodes, list) and _are_whole(episodes, least) else ["episodes"]),
        ]
        if over is not None:
            flags = isinstance(over, list) and [type(one) for one in over] == [bool] * self.num_envs
            logs = {f"actions/{i}": arrays.get(f"actions/{i}") for i in range(self.num_envs)}
            damaged += [] if flags else ["over"]
            damaged += [name for name, log in logs.items() if not self._is_log(log)]
        if damaged:
            raise CheckpointError(f"saved environments: {damaged[0]!r} is missing or damaged")

    def _is_log(self, log: Any) -> bool:
        rows = isinstance(log, np.ndarray) and log.ndim == 2 and log.shape[1] == self.action_spec.dim
        return rows and log.dtype.kind == "f" and bool(np.isfinite(log).all())

    def _replay(self, i: int, actions: np.ndarray) -> Row:
        self._episodes[i] -= 1
        row = self._begin(i)
        for action in actions:
            row = self._take(i, action)
        return row

    def _advance(self, actions: np.ndarray, over: np.ndarray) -> Step:
        self._over = None  # a failure leaves it so: the next call begins anew
        rows = [self._begin(i) if over[i] else self._take(i, actions[i]) for i in range(self.num_envs)]
        step = self._row(rows)
        self._over = step.is_last
        return step

    def _row(self, rows: list[Row]) -> Step:
        obs, reward, first, terminal, last, infos = zip(*rows, strict=True)
        return Step(
            self._observe(obs),
            np.array(reward, np.float32),
            np.array(first, bool),
            np.array(last, bool),
            np.array(terminal, bool),
            self._tell(infos),
        )

    def _begin(self, i: int) -> Row:
        arguments = self._reset_with(i)
        self._episodes[i] += 1
        self._actions[i] = []
        try:
            obs, info = self._envs[i].reset(**arguments)
        except Exception as error:
            raise EnvironmentFailure(
                f"environment {i} raised in reset: {type(error).__name__}: {error}", env_index=i
            ) from error
        return obs, 0.0, True, False, False, info

    def _reset_with(self, i: int) -> dict[str, Any]:
        return {"seed": episode_seed(self._seed, i, int(self._episodes[i]))}

    def _take(self, i: int, action: np.ndarray) -> Row:
        if len(self._actions[i]) < _MAX_LOG:
            self._actions[i].append(action.copy())
        try:
            obs, reward, terminated, truncated, info = self._envs[i].step(self._act(action))
        except Exception as error:
            raise EnvironmentFailure(
                f"environment {i} raised in step {len(self._actions[i])} of its episode: "
                f"{type(error).__name__}: {error}",
                env_index=i,
            ) from error
        paid, ended, cut = (
            self._one(i, name, value)
            for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated))
        )
        return obs, paid, False, bool(ended), bool(ended or cut), info

    def _one(self, i: int, name: str, given: Any) -> float:
        value = as_array(given)
        if value.size != 1 or value.dtype.kind not in "biuf":
            raise EnvironmentFailure(
                f"environment {i} gave the {name} {given!r} in step {len(self._actions[i])} of its episode, expected "
                "one number",
                env_index=i,
            )
        return float(value.item())
