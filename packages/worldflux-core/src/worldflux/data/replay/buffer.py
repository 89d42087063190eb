"""The earlier ``ReplayBuffer``: whole episodes in, sequences out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldflux.core.batch import Batch
from worldflux.core.errors import BufferError, CheckpointError, ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.envs import Step
from worldflux.files import expanded, replacing
from worldflux.words.counts import counted

from ..npy import read_npz
from ..providers import BatchRequest
from ..row import check_whole
from .layout import Field, check_value
from .ring import Replay

_SAVED = ("obs", "actions", "rewards", "dones", "obs_shape", "action_dim", "capacity")


class ReplayBuffer:
    """A :class:`Replay` of one stream that takes whole episodes and gives sequences from within one episode.

    Episodes come as Gymnasium gives them: ``rewards[t]`` and ``dones[t]`` follow ``actions[t]``. Rows are stored under
    the arrival convention (``rewards`` of a batch are received *on arriving* at the row), so an episode of T actions is
    T + 1 rows. If only T observations are given, the one after the last action is unknown: the last one stands in for
    it, so that the last reward and the termination are kept.

    Args:
        capacity: rows; obs_shape: of one observation; action_dim: numbers in one action; seed: of the sampling.
    """

    def __init__(
        self,
        capacity: int,
        obs_shape: tuple[int, ...],
        action_dim: int,
        obs_dtype: type | np.dtype | str = np.float32,
        *,
        seed: int = 0,
    ) -> None:
        if not isinstance(obs_shape, (tuple, list)):
            raise ConfigurationError(f"obs_shape is {obs_shape!r}, expected sizes such as (8,) or (3, 64, 64)")
        for name, size in (("action_dim", action_dim), *(("obs_shape", size) for size in obs_shape)):
            check_whole(name, size, 0 if name == "action_dim" else 1)
        self.obs_shape, self.action_dim = tuple(int(size) for size in obs_shape), int(action_dim)
        try:
            dtype = np.dtype(obs_dtype).name
            if np.dtype(obs_dtype).kind not in "biuf":
                raise TypeError("it is no dtype of numbers")
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"obs_dtype is {obs_dtype!r}, expected such as 'uint8': {error}") from None
        kind = ModalityKind.IMAGE if len(self.obs_shape) == 3 else ModalityKind.VECTOR
        self._replay = Replay(
            capacity,
            obs_spec={"obs": ModalitySpec(kind, self.obs_shape, dtype)},
            action_spec=ActionSpec("continuous", action_dim),
            boundary="within",
            seed=seed,
        )

    def __len__(self) -> int:
        """Transitions stored."""
        return len(self._replay) - self.num_episodes

    @property
    def capacity(self) -> int:
        """Rows it can hold."""
        return self._replay.capacity

    @property
    def num_episodes(self) -> int:
        """Episodes stored, the oldest perhaps in part."""
        return int(self._replay.state_dict()[0]["is_last"].sum())

    def add_episode(
        self, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray | None = None
    ) -> None:
        """Store one episode: ``obs [T or T+1, …]``, ``actions [T, A]``, ``rewards [T]``, ``dones [T]`` (terminal).

        Raises:
            ShapeMismatchError: lengths or shapes disagree. BufferError: a number is not finite, or the episode is
            empty, longer than the buffer or done before its end. Nothing of the episode is stored then.
        """
        obs, actions, rewards = (
            _numbers(*given) for given in (("obs", obs), ("actions", actions), ("rewards", rewards))
        )
        if dones is not None:
            dones = _numbers("dones", dones)
        steps = len(actions)
        dones = np.zeros(steps, bool) if dones is None else np.asarray(dones).astype(bool)
        self._check(obs, actions, rewards, dones)
        if len(obs) == steps:
            obs = np.concatenate([obs, obs[-1:]])
        actions = np.concatenate([actions, np.zeros_like(actions[:1])])
        rewards = np.concatenate([[0.0], rewards]).astype(np.float32)
        last = np.arange(steps + 1) == steps
        for t in range(steps + 1):
            row = slice(t, t + 1)
            terminal = last[row] & bool(dones[-1])
            step = Step({"obs": obs[row]}, rewards[row], np.array([t == 0]), last[row], terminal)
            self._replay.add(step, actions[row])

    def sample(self, batch_size: int, seq_len: int = 1, device: str | torch.device = "cpu") -> Batch:
        """Return ``batch_size`` sequences of ``seq_len`` rows; ``obs`` is a tensor. Raises BufferError if too short."""
        batch = self._replay.sample(BatchRequest(batch_size, seq_len, device))
        return Batch(
            obs=batch.obs["obs"],
            **{name: getattr(batch, name) for name in ("actions", "rewards", "is_first", "is_last", "is_terminal")},
        )

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the stored rows by name, and the rest: checkpoints of a training hold them."""
        return self._replay.state_dict()

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises CheckpointError if it is of another buffer."""
        self._replay.load_state_dict(arrays, meta)

    def save(self, path: str | Path) -> None:
        """Write everything as one compressed ``.npz`` file, oldest row first."""
        rows = len(self._replay)
        arrays, meta = self._replay.state_dict()
        order = np.arange(meta["rows"] - rows, meta["rows"]) % self.capacity
        names = {"obs": "obs/obs", "actions": "action", "rewards": "reward", "dones": "is_terminal"}
        names |= {flag: flag for flag in ("is_first", "is_last")}
        saved = {name: arrays[key][0][order] for name, key in names.items()}
        sizes = {"obs_shape": self.obs_shape, "action_dim": self.action_dim, "capacity": self.capacity}
        everything: dict[str, Any] = saved | {name: np.array(value) for name, value in sizes.items()}
        with replacing(expanded(path)) as (stage,), stage.open("wb") as file:
            np.savez_compressed(file, **everything)

    @classmethod
    def load(cls, path: str | Path, *, seed: int = 0) -> ReplayBuffer:
        """Read what ``save`` wrote, or a file of the earlier WorldFlux (rewards after actions, split where done).

        Raises:
            CheckpointError: it is missing, damaged, or holds anything but plain numbers, or this is no path.
        """
        if not isinstance(path, (str, os.PathLike)):  # a number would be an open file of somebody else
            raise CheckpointError(f"path is {path!r}, expected the path of a file that save wrote")
        data = read_npz(expanded(path), _SAVED, optional=("is_last",))
        try:
            return cls._of(data, seed)
        except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
            raise CheckpointError(f"{path} is not a readable replay buffer: {error}") from error

    @classmethod
    def _of(cls, data: Mapping[str, np.ndarray], seed: int) -> ReplayBuffer:
        obs, actions, rewards, dones = (data[name] for name in ("obs", "actions", "rewards", "dones"))
        shape, capacity = tuple(int(size) for size in data["obs_shape"]), int(data["capacity"])
        ours, rows = "is_last" in data, len(obs)
        if len({len(array) for array in (obs, actions, rewards, dones, data["is_last"] if ours else obs)}) != 1:
            raise ValueError("its arrays have different lengths")
        ends = (data["is_last"] if ours else dones).astype(bool)
        ends[-1:] = True  # the last episode may have been open
        if not ours:  # each episode takes a row more here
            capacity = max(capacity, rows + int(ends.sum()))
        buffer = cls(capacity, shape, int(data["action_dim"]), obs.dtype, seed=seed)
        sizes = {"obs": buffer.obs_shape, "actions": (buffer.action_dim,), "rewards": (), "dones": ()}
        for name, size in sizes.items():
            if data[name].shape != (rows, *size):
                raise ShapeMismatchError(name, expected=(rows, *size), got=data[name].shape)
        buffer._check_values(obs, actions, rewards)
        if rows:
            buffer._fill(*(_rows_of_ours if ours else _rows_of_earlier)(ends), data)
        return buffer

    def _fill(self, take: np.ndarray, led: np.ndarray, last: np.ndarray, data: Mapping[str, np.ndarray]) -> None:
        """Store whole episodes at once: rows ``take``, where the rewards and terminals of ``led`` arrive."""
        if not len(take):
            return
        if len(take) > self.capacity:
            raise ValueError(f"its episodes take {counted(len(take), 'row')}, its capacity is {self.capacity}")
        first = np.concatenate([[True], last[:-1]])
        terminal = data["dones"][led].astype(bool) & ~first
        if (terminal & ~last).any():
            raise ValueError(f"row {take[np.argmax(terminal & ~last)]} is done before its episode ends")
        rows: dict[str, np.ndarray] = {
            "obs/obs": data["obs"][take],
            "action": data["actions"][take].astype(np.float32),
            "reward": data["rewards"][led].astype(np.float32),
            "is_first": first,
            "is_last": last,
            "is_terminal": terminal,
        }
        rows["action"][last], rows["reward"][first] = 0, 0
        arrays = {name: array[None] for name, array in rows.items()} | {"run_start": np.flatnonzero(first)[-1:]}
        self._replay.load_state_dict(arrays, self._replay.state_dict()[1] | {"rows": len(take)})

    def _check(self, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray) -> None:
        steps = len(actions)
        if not steps:
            raise BufferError("the episode is empty")
        if len(obs) not in (steps, steps + 1) or obs.shape[1:] != self.obs_shape:
            raise ShapeMismatchError("obs", expected=(f"{steps} or {steps + 1}", *self.obs_shape), got=obs.shape)
        shapes = {"actions": (actions, (steps, self.action_dim)), "rewards": (rewards, (steps,))}
        for name, (array, expected) in (shapes | {"dones": (dones, (steps,))}).items():
            if array.shape != expected:
                raise ShapeMismatchError(name, expected=expected, got=array.shape)
        if steps + 1 > self.capacity:
            raise BufferError(f"the episode takes {counted(steps + 1, 'row')}, the buffer holds {self.capacity}")
        if dones[:-1].any():
            raise BufferError(
                f"done at step {int(np.argmax(dones))} of {steps}: "
                "add the episodes one by one, each ending where it is done"
            )
        self._check_values(obs, actions, rewards)

    def _check_values(self, obs: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        stored = np.dtype(self._replay.obs_spec["obs"].dtype)
        for name, array in (("obs", obs), ("actions", actions), ("rewards", rewards)):
            dtype = stored if name == "obs" else np.dtype(np.float32)
            if array.dtype.kind == "f" and dtype.kind == "f":
                with np.errstate(over="ignore"):  # what is too large for the storage is not finite in it
                    array = array.astype(dtype)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                step = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
                raise BufferError(f"{name!r} is not finite at step {step} of the episode: nothing of it was stored")
            field = Field(array.shape[1:], dtype)
            check_value(name, array, field, len(array), len(self._replay))  # a value or a dtype the storage cannot hold


def _rows_of_ours(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows to store, those whose rewards arrive there, and which are the last; of one row no action is left."""
    take = np.flatnonzero(~(ends & np.concatenate([[True], ends[:-1]])))
    return take, take, ends[take]


def _rows_of_earlier(ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same where rewards follow actions: each last row stands once more for the one after it."""
    take = np.repeat(np.arange(len(ends)), 1 + ends)
    last = np.zeros(len(take), bool)
    last[(np.cumsum(1 + ends) - 1)[ends]] = True
    return take, np.concatenate([[0], take[:-1]]), last


def _numbers(name: str, value: object) -> np.ndarray:
    """An array of numbers with a first axis. Raises BufferError for anything else."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BufferError(f"{name} makes no array: {error}") from error
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise BufferError(f"{name} is a {type(value).__name__} ({array.dtype}), expected an array of numbers [T, …]")
    return array
