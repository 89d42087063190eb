"""What an environment gives, and what a vector of environments can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from worldflux.core.spec import ActionSpec, ModalitySpec


@dataclass(frozen=True)
class Step:
    """One row for each of N environments, under the arrival convention.

    ``obs`` maps names to arrays ``[N, ...]``; ``reward`` ``[N]`` float32, received on arriving here (0 where
    ``is_first``); ``is_first``, ``is_last``, ``is_terminal`` ``[N]`` bool. ``is_last`` says that the episode is over;
    ``is_terminal`` that it ended in truth, so that nothing may be bootstrapped beyond it (a time limit does not).
    ``infos`` maps names to arrays ``[N, ...]`` of what is true beside what is shown: recorded, not observed.
    """

    obs: dict[str, np.ndarray]
    reward: np.ndarray
    is_first: np.ndarray
    is_last: np.ndarray
    is_terminal: np.ndarray
    infos: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reward)


@runtime_checkable
class VectorEnv(Protocol):
    """N environments in lockstep: every call gives one row of each.

    An environment whose previous row was ``is_last`` is reset by the next ``step``: its action is ignored and its
    row is ``is_first``. There are no other rows. Actions are flat (see :class:`~worldflux.core.spec.ActionSpec`).

    One whose steps have ``infos`` says so in an attribute ``info_spec``, a mapping as ``obs_spec`` is; see
    :func:`info_spec`.
    """

    @property
    def num_envs(self) -> int: ...

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]: ...

    @property
    def action_spec(self) -> ActionSpec: ...

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every environment; a seed restarts the sequence of episode seeds."""
        ...

    def step(self, actions: np.ndarray) -> Step:
        """Take the flat actions ``[N, A]`` and return the rows they lead to."""
        ...

    def close(self) -> None:
        """Free what the environments hold."""
        ...


def info_spec(env: object) -> dict[str, ModalitySpec]:
    """Return what the steps of environments have as ``infos``, by name; nothing where they do not say."""
    return dict(getattr(env, "info_spec", None) or {})
