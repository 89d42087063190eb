"""Environments for study in lockstep: N episodes stepped and drawn as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError, ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.words.counts import counted

from ..goals import Goals
from ..step import Step
from ..vector import episode_seed
from .beginning import Beginnings
from .drawing import developed
from .draws import Draws
from .options import PREFIX, chosen

Array = np.ndarray


class StudyEnv:
    """N environments of one kind for study. Implements :class:`~worldflux.envs.VectorEnv` and ``GoalEnv``.

    An episode is a function of its seed and the actions taken: its factors, start, goal and noise follow from the seed
    alone, whatever stands beside it. The episodes' seeds follow from ``seed`` as those of ``SyncVectorEnv`` do.

    Args:
        name: "study:point-goal", "study:two-room" or "study:push-block".
        options: see :class:`~worldflux.envs.study.StudyOptions`; also ``vary`` and factors by name.

    Raises:
        ConfigurationError: there is no such environment or option, or a value is wrong.
    """

    def __init__(
        self, name: str, *, num_envs: int = 1, seed: int = 0, options: Mapping[str, Any] | None = None
    ) -> None:
        self.task, self.options, self.factors = chosen(name, options or {})
        self.name = PREFIX + self.task.name
        self._begin = Beginnings(self.name, self.task, self.options, self.factors)
        self._num, self._seed = num_envs, seed
        self._episodes = np.zeros(num_envs, np.int64)  # episodes begun
        self.draws = Draws(np.zeros(num_envs))
        self.looks = self.factors.drawn(self.draws)
        self.time = np.zeros(num_envs, np.int64)  # steps since the episodes began
        self._states = np.zeros((num_envs, len(self.task.state_names)))
        self._goals = self._states.copy()
        self._backdrop = np.zeros((num_envs, 3, *[self.options.size] * 2), np.float32) if self._shows("image") else None
        self._over: Array | None = None  # None before the first reset

    @property
    def num_envs(self) -> int:
        """How many environments there are."""
        return self._num

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name."""
        size, width, shown = self.options.size, sum(self.task.parts.values()), {}
        if self._shows("image"):
            shown["image"] = ModalitySpec(ModalityKind.IMAGE, (3, size, size), "uint8", "CHW", "image")
        if self._shows("state"):
            names = ["state", *(["goal"] if self.options.show_goal else [])]
            shown |= {name: ModalitySpec(ModalityKind.VECTOR, (width,), "float32", None, name) for name in names}
        return shown

    @property
    def info_spec(self) -> Mapping[str, ModalitySpec]:
        """The parts of the true state, the factors that vary, and the goal if it is shown, by name."""
        widths = dict(self.task.parts)
        if self.options.show_goal:
            widths |= {f"goal_{name}": width for name, width in self.task.parts.items()}
        for name in sorted(self.factors.varied - set(self.task.parts)):
            widths[name] = len(self.factors.known[name].default)
        kind = ModalityKind.VECTOR
        return {name: ModalitySpec(kind, (width,), "float32", None, name) for name, width in widths.items()}

    @property
    def action_spec(self) -> ActionSpec:
        """Two numbers in [-1, 1]: right and down."""
        return ActionSpec("continuous", 2)

    @property
    def single_observation_space(self) -> Any:
        """Gymnasium's space of what one environment shows; None without Gymnasium."""
        return self._spaces()[0]

    @property
    def single_action_space(self) -> Any:
        """Gymnasium's space of one environment's action; None without Gymnasium."""
        return self._spaces()[1]

    @property
    def max_episode_steps(self) -> int:
        """The steps of every episode."""
        return self.options.limit

    @property
    def state_names(self) -> tuple[str, ...]:
        """What the S numbers of a state are: shares of the side from the left or the top, angles in radians."""
        return self.task.state_names

    @property
    def about(self) -> dict[str, Any]:
        """Return which environment this is, for the card of a number: its name, options, and the factors that vary."""
        return {"name": self.name, "options": asdict(self.options), "vary": sorted(self.factors.varied)}

    @property
    def solved_at_start(self) -> int:
        """How many drawn pairs of start and goal were left out so far, because nothing was to be done."""
        return self._begin.solved

    def reset(
        self, seed: int | Sequence[int] | None = None, *, starts: Array | None = None, goals: Array | None = None
    ) -> Step:
        """Begin a new episode everywhere; see ``GoalEnv.reset``.

        Raises:
            ConfigurationError: seeds, starts or goals are not one for each environment, a state cannot be, or start and
                goal are of different worlds.
        """
        everywhere = np.ones(self._num, bool)
        seeds = self._next_seeds(everywhere) if seed is None else self._given_seeds(seed)
        self._start(everywhere, seeds, starts, goals)
        return self._row(everywhere)

    def step(self, actions: Array) -> Step:
        """Take actions ``[N, 2]``, clipped to [-1, 1]; environments whose last row was ``is_last`` begin anew instead.

        Raises:
            ShapeMismatchError, ValidationError: the actions are not ``[N, 2]`` finite numbers.
        """
        if self._over is None:
            return self.reset()
        taken, fresh = self._checked(actions), self._over
        self._states = self.task.move(self._states, taken, self.looks)
        self.time = self.time + 1
        if fresh.any():
            self._start(fresh, self._next_seeds(fresh)[fresh], None, None)
        return self._row(fresh)

    def states(self) -> Array:
        """The true states ``[N, S]``."""
        return self._states.copy()

    def goals(self) -> Goals:
        """The goals, as they would be observed and as states."""
        return Goals(self.observe(self._goals), self._goals.copy())

    def goal_states(self) -> Array:
        """The goals as states ``[N, S]``; nothing is drawn."""
        return self._goals.copy()

    def success(self) -> Array:
        """Whether each row is at its goal, ``[N]``."""
        return self.task.gap(self._states, self._goals) < self.options.radius

    def distance(self) -> Array:
        """How far each row is from its goal, ``[N]``: the shortest way, as a share of the picture's side."""
        return self.task.distance(self._states, self._goals, self.looks)

    def oracle(self, goals: Array | None = None) -> Array:
        """Return the best actions ``[N, 2]`` towards the episodes' goals, or towards others ``[N, S]``."""
        return self.task.oracle(self._states, self._goals if goals is None else goals, self.looks)

    def observe(self, states: Array) -> dict[str, Array]:
        """Return what states ``[N, S]`` of the episodes' own worlds look like, as an observation."""
        return self._seen(np.asarray(states, np.float64), "seen")

    def picture(self) -> Array:
        """Return the rows as pictures ``[N, 3, size, size]`` uint8, whatever is observed."""
        return self._drawn(self._states, "noise")

    def close(self) -> None:
        """Do nothing: these environments hold nothing that must be freed."""

    def state_dict(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the seeds, and where every episode is."""
        looks = {f"looks/{name}": values.copy() for name, values in self.looks.items()}
        arrays = {name: values.copy() for name, values in self._kept().items()}
        return arrays | looks, {"seed": self._seed, "begun": self._over is not None}

    def load_state_dict(self, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> Step | None:
        """Go on where ``state_dict`` was called, and return the row it was called at; None if that was before any.

        Raises:
            ConfigurationError: the state is of another number of environments. CheckpointError: it is damaged. Nothing
                changes then.
        """
        expected = self._kept() | {f"looks/{name}": values for name, values in self.looks.items()}
        for name, mine in expected.items():
            saved = arrays.get(name)
            if not isinstance(saved, np.ndarray) or saved.dtype != mine.dtype or saved.shape[1:] != mine.shape[1:]:
                raise CheckpointError(f"saved environments: {name!r} is missing or damaged")
            if len(saved) != self._num:
                raise ConfigurationError(
                    f"the saved state has {counted(len(saved), 'environment')}, this vector {self._num}"
                )
        if type(meta.get("seed")) is not int or type(meta.get("begun")) is not bool:
            raise CheckpointError("saved environments: 'seed' or 'begun' is missing or damaged")
        self._seed, self._episodes = meta["seed"], arrays["episodes"].copy()
        if not meta["begun"]:
            return None
        self.looks = {name: arrays[f"looks/{name}"].copy() for name in self.looks}
        self.draws, self.time = Draws(arrays["seeds"].copy()), arrays["time"].copy()
        self._states, self._goals = arrays["states"].copy(), arrays["goals"].copy()
        self._draw_backdrop(np.ones(self._num, bool))
        return self._row(self.time == 0)

    def _kept(self) -> dict[str, Array]:
        kept = {"seeds": self.draws.seeds, "episodes": self._episodes, "time": self.time}
        return kept | {"states": self._states, "goals": self._goals}

    # -- how an episode begins -----------------------------------------------------------------------------------------

    def _next_seeds(self, which: Array) -> Array:
        seeds = np.zeros(self._num, np.uint64)
        for i in np.flatnonzero(which):
            seeds[i] = episode_seed(self._seed, int(i), int(self._episodes[i]))
        self._episodes[which] += 1
        return seeds

    def _given_seeds(self, seed: int | Sequence[int]) -> Array:
        if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
            self._seed = int(seed)
            self._episodes[:] = 0
            return self._next_seeds(np.ones(self._num, bool))
        seeds = np.asarray(seed)
        if seeds.shape != (self._num,) or seeds.dtype.kind not in "iu" or (seeds < 0).any():
            raise ConfigurationError(f"seed is {seed!r}, expected a whole number, or one for each of {self._num}")
        self._episodes += 1
        return seeds.astype(np.uint64)

    def _start(self, which: Array, seeds: Array, starts: Array | None, goals: Array | None) -> None:
        """Begin episodes; nothing changes if they cannot begin."""
        draws = Draws(seeds)
        looks, begun, ends = self._begin(draws, starts, goals)
        all_seeds = self.draws.seeds.copy()
        all_seeds[which] = seeds
        self.draws = Draws(all_seeds)
        for name, values in looks.items():
            self.looks[name][which] = values
        self._states[which], self._goals[which], self.time[which] = begun, ends, 0
        self._draw_backdrop(which)

    def _draw_backdrop(self, which: Array) -> None:
        if self._backdrop is not None:
            looks = {name: values[which] for name, values in self.looks.items()}
            self._backdrop[which] = self._background(self._states[which], self._goals[which], looks)

    # -- what a row is -------------------------------------------------------------------------------------------------

    def _row(self, fresh: Array) -> Step:
        paid = self.success().astype(np.float32) if self.options.reward == "sparse" else -self.distance()
        last = self.time >= self.options.limit
        self._over = last
        return Step(
            self._seen(self._states, "noise"),
            np.where(fresh, 0, paid).astype(np.float32),
            fresh.copy(),
            last,
            np.zeros(self._num, bool),
            self._infos(),
        )

    def _infos(self) -> dict[str, Array]:
        told = self.task.told(self._states)
        if self.options.show_goal:
            told |= {f"goal_{name}": values for name, values in self.task.told(self._goals).items()}
        for name in self.factors.varied - set(told):
            told[name] = self.looks[name].reshape(self._num, -1).astype(np.float32)
        return {name: told[name] for name in self.info_spec}

    def _seen(self, states: Array, grain: str) -> dict[str, Array]:
        seen = {}
        if self._shows("image"):
            seen["image"] = self._drawn(states, grain)
        if self._shows("state"):
            shown = {"state": states, **({"goal": self._goals} if self.options.show_goal else {})}
            for name, values in shown.items():
                seen[name] = np.concatenate(list(self.task.told(values).values()), 1)
        return seen

    def _background(self, states: Array, goals: Array, looks: dict[str, Array]) -> Array:
        canvas = self.task.backdrop(states, looks, self.options.size)
        if self.options.show_goal:
            self.task.mark(canvas, goals, looks)
        return canvas

    def _drawn(self, states: Array, grain: str) -> Array:
        kept, looks = self._backdrop, self.looks
        canvas = self._background(states, self._goals, looks) if kept is None else kept.copy()
        self.task.draw(canvas, states, looks)
        effects = {name: looks[name] for name in ("light", "blur", "noise")}
        return developed(canvas, **effects, draws=self.draws, name=grain, count=self.time)

    def _shows(self, what: str) -> bool:
        return self.options.obs in (what, "both")

    def _checked(self, actions: Any) -> Array:
        given = np.asarray(actions)
        if given.shape != (self._num, 2):
            raise ShapeMismatchError("wrong action", expected=(self._num, 2), got=given.shape)
        if given.dtype.kind not in "fiub" or not np.isfinite(given).all():
            raise ValidationError(f"actions must be finite numbers, got {given.dtype} {given.tolist()}")
        return np.clip(given.astype(np.float32), -1, 1).astype(np.float64)

    def _spaces(self) -> tuple[Any, Any]:
        try:
            from .gym_spaces import action_space, dict_space
        except ImportError:
            return None, None
        return dict_space(self.obs_spec, bound=1), action_space()
