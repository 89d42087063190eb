"""Environments whose every episode has a goal, which is a state: what one of them must offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from worldflux.core.spec import ActionSpec, ModalitySpec

from .step import Step


@dataclass(frozen=True)
class Goals:
    """The goal of each of N episodes under way.

    ``obs`` is what an observation in the goal would show, by the names of ``obs_spec``, arrays ``[N, ...]``; ``state``
    ``[N, S]`` float64 is the goal as a state, in the order of ``state_names``.
    """

    obs: dict[str, np.ndarray]
    state: np.ndarray


@runtime_checkable
class GoalEnv(Protocol):
    """A :class:`VectorEnv` whose episodes have goals; all it tells is of the rows that were given last.

    So at a row that is ``is_last`` it still tells of the episode that is over. Nothing of a goal is observed by itself,
    and an episode does not end where its goal is reached.
    """

    @property
    def num_envs(self) -> int: ...

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]: ...

    @property
    def action_spec(self) -> ActionSpec: ...

    @property
    def state_names(self) -> tuple[str, ...]:
        """What the S numbers of a state are."""
        ...

    @property
    def solved_at_start(self) -> int:
        """How many drawn pairs of start and goal were left out so far, because nothing was to be done."""
        ...

    def reset(
        self,
        seed: int | Sequence[int] | None = None,
        *,
        starts: np.ndarray | None = None,
        goals: np.ndarray | None = None,
    ) -> Step:
        """Start a new episode everywhere.

        A seed restarts the sequence of episodes; N seeds are those of the N episodes that begin, so that an episode is
        the same however many stand beside it. ``starts`` and ``goals`` ``[N, S]`` are states; what is not given is
        drawn, and where one of the two is given, only the other is. A pair that is given is taken even if solved.
        """
        ...

    def step(self, actions: np.ndarray) -> Step:
        """Take the flat actions ``[N, A]``; the goals of episodes that begin are drawn."""
        ...

    def states(self) -> np.ndarray:
        """The true states ``[N, S]``, float64; what ``starts`` takes."""
        ...

    def goals(self) -> Goals:
        """The goals."""
        ...

    def success(self) -> np.ndarray:
        """Whether each row is at its goal, ``[N]`` bool."""
        ...

    def distance(self) -> np.ndarray:
        """How far each row is from its goal, ``[N]`` float64: the shortest way there, in the environment's own unit."""
        ...

    def close(self) -> None:
        """Free what the environments hold."""
        ...
