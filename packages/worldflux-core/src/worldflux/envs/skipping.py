"""Frame skip: an action of a model that learned from every k-th row is k actions of its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ActionPart, ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from .limits import begin_anew
from .step import Step, VectorEnv, info_spec
from .vector import episode_seed


def skipped_actions(spec: ActionSpec, frame_skip: int) -> ActionSpec:
    """Return what the action between two kept rows is: ``frame_skip`` actions, one after the other."""
    if frame_skip == 1 or not spec.dim:
        return spec
    if spec.kind == "continuous":
        return replace(spec, dim=spec.dim * frame_skip)
    width = len(str(frame_skip - 1))  # so that the order of names is the order of time
    parts = [
        ActionPart(f"{step:0{width}d}/{part.name}", part.kind, part.dim)
        for step in range(frame_skip)
        for part in spec.leaves()
    ]
    return ActionSpec("multi", parts=tuple(parts))


def each_step(env: VectorEnv, actions: np.ndarray, *, frame_skip: int) -> Iterator[Step]:
    """Take actions ``[N, k * A]`` one after the other, and give each of the k rows they lead to.

    Whoever stops asking stops the environments there.

    Raises:
        ShapeMismatchError: the actions are not ``[N, k * A]``.
    """
    given, expected = np.asarray(actions), (env.num_envs, frame_skip * env.action_spec.dim)
    if given.shape != expected:
        raise ShapeMismatchError(f"{frame_skip} actions in one", expected=expected, got=given.shape)
    for now in given.reshape(env.num_envs, frame_skip, env.action_spec.dim).transpose(1, 0, 2):
        yield env.step(now)


class FrameSkip:
    """Environments that take ``frame_skip`` actions in one and show the row these lead to. Implements ``VectorEnv``.

    An action is ``[k * A]``, the first of the k before the second; its reward is the sum of theirs. Where an episode
    ends within it, the rest of it is not done. Several vectors are put side by side: that each of one environment may
    end by itself.

    Raises:
        ConfigurationError: ``frame_skip`` is below 1, or there is no environment.
    """

    def __init__(self, envs: Sequence[VectorEnv], *, frame_skip: int) -> None:
        if isinstance(frame_skip, bool) or not isinstance(frame_skip, int) or frame_skip < 1:
            raise ConfigurationError(f"frame_skip must be a whole number of at least 1, got {frame_skip!r}")
        if not envs:
            raise ConfigurationError("a vector of environments needs at least one")
        self._envs, self._skip = list(envs), frame_skip

    @property
    def num_envs(self) -> int:
        """How many environments there are."""
        return sum(env.num_envs for env in self._envs)

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name."""
        return self._envs[0].obs_spec

    @property
    def info_spec(self) -> Mapping[str, ModalitySpec]:
        """What else rows have, by name."""
        return info_spec(self._envs[0])

    @property
    def action_spec(self) -> ActionSpec:
        """The k actions in one."""
        return skipped_actions(self._envs[0].action_spec, self._skip)

    @property
    def single_observation_space(self) -> Any:
        """The space of what one environment shows, where they tell it, else None."""
        return getattr(self._envs[0], "single_observation_space", None)

    @property
    def single_action_space(self) -> Any:
        """The space of one environment's own action, of one step, where they tell it, else None."""
        return getattr(self._envs[0], "single_action_space", None)

    @property
    def max_episode_steps(self) -> int | None:
        """The most actions of k steps an episode may have; None where the environments do not say."""
        limit = getattr(self._envs[0], "max_episode_steps", None)
        return None if limit is None else -(-limit // self._skip)

    def reset(self, seed: int | None = None) -> Step:
        """Begin a new episode everywhere; see :class:`~worldflux.envs.VectorEnv`."""
        seeds = [None if seed is None else episode_seed(seed, j, 0) if j else seed for j in range(len(self._envs))]
        return _beside([env.reset(own) for env, own in zip(self._envs, seeds, strict=True)])

    def step(self, actions: np.ndarray) -> Step:
        """Take actions ``[N, k * A]``; environments whose last row was ``is_last`` begin anew instead.

        Raises:
            ConfigurationError: environments that can only be stepped together do not end together.
        """
        given = np.asarray(actions)
        if len(given) != self.num_envs:
            raise ShapeMismatchError("actions of environments", expected=self.num_envs, got=len(given))
        ends = np.cumsum([env.num_envs for env in self._envs])[:-1]
        parts = np.split(given, ends)
        return _beside([self._taken(env, part) for env, part in zip(self._envs, parts, strict=True)])

    def cut(self, which: np.ndarray) -> None:
        """End the open episodes of some environments, where they can be begun anew one by one."""
        ends = np.cumsum([env.num_envs for env in self._envs])[:-1]
        for env, part in zip(self._envs, np.split(np.asarray(which), ends), strict=True):
            if part.any():
                begin_anew(env, part)

    def close(self) -> None:
        """Close every environment."""
        for env in self._envs:
            env.close()

    def _taken(self, env: VectorEnv, actions: np.ndarray) -> Step:
        paid = np.zeros(env.num_envs, np.float32)
        for step in each_step(env, actions, frame_skip=self._skip):
            paid = paid + step.reward
            for over in (step.is_first, step.is_last):
                if over.any() and not over.all():
                    raise ConfigurationError(
                        f"{int(over.sum())} of {counted(len(over), 'environment')} that are stepped together ended "
                        f"within an action of {counted(self._skip, 'step')}, the others did not: pass what makes one "
                        "of them, as in env=lambda: MyEnv(), and each is stepped by itself"
                    )
            if step.is_first.any() or step.is_last.any():
                break
        return replace(step, reward=paid)


def _beside(steps: Sequence[Step]) -> Step:
    """Rows of several vectors as those of one."""
    if len(steps) == 1:
        return steps[0]
    columns: dict[str, Any] = {
        flag: np.concatenate([getattr(step, flag) for step in steps])
        for flag in ("reward", "is_first", "is_last", "is_terminal")
    }
    for kind in ("obs", "infos"):
        named = [getattr(step, kind) for step in steps]
        columns[kind] = {name: np.concatenate([one[name] for one in named]) for name in named[0]}
    return Step(**columns)
