"""What an environment for study is, as functions of arrays: N episodes at once, nothing kept between calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from .drawing import blank, border, fill
from .draws import Draws
from .factors import Factor, Looks
from .ways import EDGE

Array = np.ndarray


class Task(ABC):
    """The states of an environment, what moves them, how they look, and how a goal is reached.

    States are ``[N, S]`` float64, in the order of ``state_names``; places are shares of the picture's side from its top
    left corner. Actions are ``[N, 2]`` in [-1, 1]: right and down. ``looks`` are the episodes' factors.
    """

    name: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]]
    parts: ClassVar[dict[str, int]]  # what is recorded of a state, by name, with its width
    factors: ClassVar[tuple[Factor, ...]]
    goal_kinds: ClassVar[tuple[str, ...]] = ("place", "offset")
    reach: ClassVar[float]  # how far from its middle the largest thing that is drawn goes
    size: ClassVar[int]
    limit: ClassVar[int]
    radius: ClassVar[float]

    @abstractmethod
    def place(self, draws: Draws, name: str, count: int | Array, looks: Looks) -> Array:
        """Return states drawn uniformly; some may not be ``valid``."""

    @abstractmethod
    def valid(self, states: Array, looks: Looks) -> Array:
        """Return whether states can be, ``[N]``."""

    @abstractmethod
    def move(self, states: Array, actions: Array, looks: Looks) -> Array:
        """Return the states that actions lead to."""

    @abstractmethod
    def gap(self, states: Array, goals: Array) -> Array:
        """Return what must be below the radius at the goal, ``[N]``."""

    @abstractmethod
    def distance(self, states: Array, goals: Array, looks: Looks) -> Array:
        """Return how far the goals are, ``[N]``."""

    @abstractmethod
    def oracle(self, states: Array, goals: Array, looks: Looks) -> Array:
        """Return the best actions towards the goals, ``[N, 2]``; nothing is done at them."""

    @abstractmethod
    def draw(self, canvas: Array, states: Array, looks: Looks) -> None:
        """Draw what moves, on top of the backdrop."""

    @abstractmethod
    def mark(self, canvas: Array, goals: Array, looks: Looks) -> None:
        """Draw the goals' marks."""

    def backdrop(self, states: Array, looks: Looks, size: int) -> Array:
        """Return canvases with all that stays for an episode."""
        canvas = blank(looks["background_color"], size)
        fill(canvas, border(looks["border"], size), looks["wall_color"])
        return canvas

    def allowed(self, kind: str, states: Array, goals: Array) -> Array:
        """Return whether goals are of a kind, seen from the states, ``[N]``."""
        return np.ones(len(states), bool)

    def adopt(self, looks: Looks, states: Array) -> Looks:
        """Return the factors, those that a state tells, too, as in the states."""
        return looks

    def same_world(self, states: Array, goals: Array) -> Array:
        """Return whether what an episode cannot move is the same in states and goals, ``[N]``."""
        return np.ones(len(states), bool)

    def told(self, states: Array) -> dict[str, Array]:
        """Return what is recorded of states, float32 ``[N, width]`` by name."""
        ends = np.cumsum(list(self.parts.values()))
        columns = np.split(states.astype(np.float32), ends[:-1], axis=1)
        return dict(zip(self.parts, columns, strict=True))

    def state_of(self, told: dict[str, Array]) -> Array:
        """Return the states of which this was recorded, ``[N, S]``: a row of a dataset as a start or a goal."""
        return np.concatenate([np.asarray(told[name], np.float64) for name in self.parts], 1)


def reach(apart: Array, speed: Array) -> Array:
    """Return actions ``[N, 2]`` that move straight by ``apart``, or as far as one step goes."""
    share = np.abs(apart).max(1) / speed
    return apart / (speed * np.maximum(share, 1))[:, None]


def span(looks: Looks) -> tuple[Array, Array]:
    """Return from where to where the agent's middle may be, ``[N]`` each."""
    low = looks["border"] + looks["agent_size"]
    return low, 1 - low


def within(places: Array, looks: Looks) -> Array:
    """Return whether agents at ``places [N, 2]`` are inside the border."""
    low, high = span(looks)
    inside = (places >= low[:, None] - EDGE) & (places <= high[:, None] + EDGE)
    return np.asarray(inside.all(1))


def somewhere(draws: Draws, name: str, count: int | Array, looks: Looks) -> Array:
    """Return places ``[N, 2]`` drawn uniformly inside the border."""
    low, high = span(looks)
    return low[:, None] + (high - low)[:, None] * draws.uniform(name, count, 2)
