"""Vector environments that others built, read by the autoreset mode they announce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from .identity import refuse_shared
from .limits import episode_limit
from .spaces import ActionAdapter, ObservationAdapter, as_array
from .step import Step
from .vector import EnvironmentFailure, episode_seed

_ANEW = "It cannot go on, nor be reset: make a new one"
_MODES = ("NEXT_STEP", "SAME_STEP", "DISABLED")
_FINAL = ("final_obs", "final_observation", "terminal_observation")  # Gymnasium's word, its earlier one, another's


class ForeignVectorEnv:
    """A ``gymnasium.vector.VectorEnv`` as rows under the arrival convention, whatever its autoreset mode.

    - ``NEXT_STEP`` gives the first row of an episode one step late: exactly our rows.
    - ``SAME_STEP`` swaps the last observation for the next episode's first; it is taken back from ``final_obs``.
    - ``DISABLED`` leaves resetting to us.

    The last two step every environment at once, also one whose turn it is to begin; such an environment is reset by
    mask after that step, so that its first row is the one the policy sees. They must honour ``reset_mask``.

    Rewards and ends may be ``[N]`` or ``[N, 1]``, lists or tensors; infos a dict of arrays or a list of dicts.

    Raises:
        ConfigurationError: ``metadata["autoreset_mode"]`` is missing or unknown, or one environment is in it twice.
    """

    def __init__(self, env: Any, *, seed: int = 0, image_size: int | None = None) -> None:
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
        spelled = getattr(mode, "name", str(mode)).upper().replace("_", "")
        name = next((known for known in _MODES if known.replace("_", "") == spelled), "")
        if not name:
            raise ConfigurationError(
                f"{type(env).__name__} announces the autoreset mode {mode!r} in metadata['autoreset_mode'], expected "
                f"one of {list(_MODES)}: without it, the ends of episodes cannot be told from their beginnings"
            )
        refuse_shared(list(getattr(getattr(env, "unwrapped", env), "envs", None) or ()))
        self._env, self._mode, self._seed = env, name, seed
        self._observe = ObservationAdapter(env.single_observation_space, image_size=image_size)
        self._act = ActionAdapter(env.single_action_space)
        self._over: np.ndarray | None = None
        self._begun, self._ended = False, ""

    @property
    def num_envs(self) -> int:
        """How many environments there are."""
        return int(self._env.num_envs)

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name."""
        return self._observe.spec

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action."""
        return self._act.spec

    @property
    def single_observation_space(self) -> Any:
        """The space of what one environment shows."""
        return self._env.single_observation_space

    @property
    def single_action_space(self) -> Any:
        """The space of one environment's own action."""
        return self._env.single_action_space

    @property
    def max_episode_steps(self) -> int | None:
        """The most steps an episode may have; None where the environments do not say."""
        return episode_limit([self._env])

    def reset(self, seed: int | None = None) -> Step:
        """Begin a new episode everywhere. Raises EnvironmentFailure."""
        if seed is not None:
            self._seed = seed
        elif self._begun:
            self._seed += 1  # a later reset without a seed must not repeat the first episodes
        self._begun = True
        obs, _ = self._call("reset", seed=self._seeds())
        first = np.ones(self.num_envs, bool)
        self._over = ~first
        return Step(self._rows(obs), np.zeros(self.num_envs, np.float32), first, ~first, ~first)

    def step(self, actions: np.ndarray) -> Step:
        """Take flat actions ``[N, A]``; see :class:`~worldflux.envs.step.VectorEnv`.

        Raises:
            ShapeMismatchError, ValidationError: the actions are not ``[N, A]`` finite numbers.
            EnvironmentFailure: the environments raised. ConfigurationError: ``reset_mask`` was not honoured.
        """
        if self._over is None:
            return self.reset()
        flat = self._act.check(actions, self.num_envs)
        fresh, self._over = self._over, None
        if self._mode == "DISABLED" and fresh.any():
            self._call("reset", options={"reset_mask": fresh.copy()})  # it refuses to step what is over
        obs, reward, terminated, truncated, info = self._call("step", self._batch(flat))
        paid = np.where(fresh, 0, self._each("rewards", reward)).astype(np.float32)
        terminal = self._each("terminations", terminated).astype(bool) & ~fresh
        last = terminal | (self._each("truncations", truncated).astype(bool) & ~fresh)
        rows = self._rows(obs)
        if self._mode != "NEXT_STEP" and fresh.any():
            rows = self._begin(rows, fresh)
        if self._mode == "SAME_STEP" and last.any():
            rows = self._final(rows, last, info)
        self._over = last
        return Step(rows, paid, fresh, last, terminal)

    def close(self) -> None:
        """Close the environments."""
        if self._ended:
            _end(self._env)
        else:
            self._env.close()

    def _seeds(self) -> int | list[int]:
        """Seeds for a reset: one for each environment where it takes a list, else the one that Gymnasium declares."""
        from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

        seeds = [episode_seed(self._seed, i, 0) for i in range(self.num_envs)]
        many = isinstance(getattr(self._env, "unwrapped", self._env), (SyncVectorEnv, AsyncVectorEnv))
        return seeds if many else seeds[0] >> 1  # 31 bits: what a C program's int holds

    def _each(self, name: str, given: Any) -> np.ndarray:
        """One number for each environment, ``[N]``. Raises EnvironmentFailure."""
        value = as_array(given)
        columns = value.shape in ((self.num_envs,), (self.num_envs, 1)) or value.size == self.num_envs == 1
        if not columns or value.dtype.kind not in "biuf":
            raise EnvironmentFailure(
                f"the vector environment {type(self._env).__name__} gave {name} of shape {value.shape} and dtype "
                f"{value.dtype}, expected one number for each of its {counted(self.num_envs, 'environment')}"
            )
        return value.reshape(self.num_envs)

    def _begin(self, rows: dict[str, np.ndarray], fresh: np.ndarray) -> dict[str, np.ndarray]:
        obs, _ = self._call("reset", options={"reset_mask": fresh.copy()})
        begun = self._rows(obs)
        if any(not np.array_equal(begun[name][~fresh], rows[name][~fresh]) for name in rows):
            raise ConfigurationError(
                f"{type(self._env).__name__} did not honour options['reset_mask'] (episodes under way changed): "
                "build it with AutoresetMode.NEXT_STEP"
            )
        return begun

    def _final(self, rows: dict[str, np.ndarray], last: np.ndarray, info: Any) -> dict[str, np.ndarray]:
        where = np.flatnonzero(last)
        ends = [_final_of(info, int(i)) for i in where]
        if any(end is None for end in ends):
            raise ConfigurationError(
                f"{type(self._env).__name__} says SAME_STEP but gave no info['final_obs'] where an episode ended"
            )
        for name, values in self._observe(ends).items():
            rows[name][where] = values
        return rows

    def _rows(self, batched: Any) -> dict[str, np.ndarray]:
        from gymnasium.vector.utils import iterate

        return self._observe(list(iterate(self._env.observation_space, batched)))

    def _batch(self, flat: np.ndarray) -> Any:
        from gymnasium.vector.utils import concatenate, create_empty_array

        space: Any = self._env.single_action_space
        out: Any = create_empty_array(space, n=len(flat))
        return concatenate(space, [self._act(row) for row in flat], out)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        kind = type(self._env).__name__
        if self._ended:
            raise EnvironmentFailure(f"the vector environment {kind} has {self._ended}. {_ANEW}", lost=True)
        try:
            return getattr(self._env, method)(*args, **kwargs)
        except Exception as error:
            message = f"the vector environment {kind} raised in {method}: {type(error).__name__}: {error}"
            self._ended = _ended_workers(self._env)
            if self._ended:
                message = f"{message.rstrip(': ')}; it has {self._ended}. {_ANEW}"
            raise EnvironmentFailure(message, lost=bool(self._ended)) from error


def _ended_workers(env: Any) -> str:
    """Say which of a vector's worker processes, if it has any, have ended, and how."""
    processes = list(getattr(getattr(env, "unwrapped", env), "processes", ()))
    waiting = {process.sentinel: process for process in processes}
    for sentinel in wait(list(waiting), timeout=1):  # one that raised or was killed may be about to end
        waiting[sentinel].join(1)  # type: ignore[index]
    ended = [f"{i} (exit code {process.exitcode})" for i, process in enumerate(processes) if not process.is_alive()]
    return f"lost its worker process {', '.join(ended)}" if ended else ""


def _end(env: Any) -> None:
    """End what is left of a vector that lost a worker; its own ``close`` waits for that one."""
    vector = getattr(env, "unwrapped", env)
    for process in vector.processes:
        process.terminate()
    for process in vector.processes:
        process.join()
    vector.closed = True


def _final_of(info: Any, i: int) -> Any:
    """The last observation of environment ``i`` in what a step told, a list of dicts or a dict of arrays; or None."""
    told = info[i] if isinstance(info, Sequence) and i < len(info) else info
    if not isinstance(told, Mapping):
        return None
    final = next((told[name] for name in _FINAL if told.get(name) is not None), None)
    if final is None or told is not info:
        return final
    return _row_of(final, i)


def _row_of(batched: Any, i: int) -> Any:
    if isinstance(batched, Mapping):
        return {key: _row_of(value, i) for key, value in batched.items()}
    return tuple(_row_of(value, i) for value in batched) if isinstance(batched, tuple) else batched[i]
