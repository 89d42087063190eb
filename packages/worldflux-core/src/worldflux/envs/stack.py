"""Several frames at once, for models that see motion in no other way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec

from .limits import begin_anew
from .spaces import spec_summary
from .step import Step, VectorEnv, info_spec


class FrameStack:
    """Environments whose images are the last ``frames`` ones of the episode, on the channel axis, the oldest first.

    ``[C, H, W]`` becomes ``[frames * C, H, W]``; before an episode's first frame there are copies of it. Observations
    that are no images stay as they are. A replay that is told of ``frame_stacks`` keeps single frames.

    Raises:
        ConfigurationError: frames is below 1, or the environments show no image.
    """

    def __init__(self, env: VectorEnv, *, frames: int) -> None:
        check_frames(frames)
        images = [name for name, spec in env.obs_spec.items() if spec.kind is ModalityKind.IMAGE]
        if not images:
            raise ConfigurationError(
                f"frame_stack={frames} is for images, but the environment shows {spec_summary(env.obs_spec)}: observe "
                "its rendered picture with render_size (64, say), or leave frame_stack out"
            )
        self._env, self._frames = env, frames
        self._shown: dict[str, np.ndarray | None] = dict.fromkeys(images)

    @property
    def num_envs(self) -> int:
        """How many environments there are."""
        return self._env.num_envs

    @property
    def obs_spec(self) -> Mapping[str, ModalitySpec]:
        """The observations by name."""
        specs = dict(self._env.obs_spec)
        for name in self._shown:
            channels, *size = specs[name].shape
            specs[name] = replace(specs[name], shape=(self._frames * channels, *size))
        return specs

    @property
    def info_spec(self) -> Mapping[str, ModalitySpec]:
        """What else rows have, by name."""
        return info_spec(self._env)

    @property
    def frame_stacks(self) -> dict[str, int]:
        """How many frames each image is a stack of, by name."""
        return dict.fromkeys(self._shown, self._frames)

    @property
    def action_spec(self) -> ActionSpec:
        """The flat action."""
        return self._env.action_spec

    @property
    def single_observation_space(self) -> Any:
        """The space of one frame, where the environments tell it, else None."""
        return getattr(self._env, "single_observation_space", None)

    @property
    def single_action_space(self) -> Any:
        """The space of one environment's own action, where they tell it, else None."""
        return getattr(self._env, "single_action_space", None)

    @property
    def max_episode_steps(self) -> int | None:
        """The most steps an episode may have; None where the environments do not say."""
        return getattr(self._env, "max_episode_steps", None)

    def reset(self, seed: int | None = None) -> Step:
        """Begin a new episode everywhere; see :class:`~worldflux.envs.VectorEnv`."""
        return self._stack(self._env.reset(seed=seed))

    def step(self, actions: np.ndarray) -> Step:
        """Take flat actions ``[N, A]``; see :class:`~worldflux.envs.VectorEnv`."""
        return self._stack(self._env.step(actions))

    def cut(self, which: np.ndarray) -> None:
        """End the open episodes of some environments, where they can be begun anew one by one."""
        begin_anew(self._env, which)

    def close(self) -> None:
        """Close every environment."""
        self._env.close()

    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the environments' state, where they have one, and the frames at hand."""
        arrays, meta = self._env.state_dict() if hasattr(self._env, "state_dict") else ({}, None)
        out = {f"env/{name}": array for name, array in arrays.items()}
        out |= {f"frames/{name}": shown for name, shown in self._shown.items() if shown is not None}
        return out, {"env": meta}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Step | None:
        """Restore what ``state_dict`` returned and give the row it ends on; None if new episodes must begin.

        Raises:
            ConfigurationError: the state is of other environments, or of another number of frames. CheckpointError: it
                is damaged. Nothing changes then.
        """
        if meta.get("env") is None or not hasattr(self._env, "load_state_dict"):
            return None
        frames = {name: self._saved_frames(name, arrays) for name in self._shown}
        inner = {name.removeprefix("env/"): array for name, array in arrays.items() if name.startswith("env/")}
        step: Step | None = self._env.load_state_dict(inner, meta["env"])
        if step is None:
            return None
        for name, saved in frames.items():
            # The newest frame is the one played again: if it came out otherwise, whoever resumes can tell.
            self._shown[name] = np.concatenate([saved[:, : -step.obs[name].shape[1]], step.obs[name]], 1)
        return replace(step, obs=self._seen(step))

    def _saved_frames(self, name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        saved, spec = arrays.get(f"frames/{name}"), self.obs_spec[name]
        if not isinstance(saved, np.ndarray) or saved.dtype != np.dtype(spec.dtype):
            raise CheckpointError(f"saved environments: the frames {name!r} are missing or damaged")
        if saved.shape != (self.num_envs, *spec.shape):
            expected = (self.num_envs, *spec.shape)
            raise ConfigurationError(f"the saved frames {name!r} are {saved.shape}, expected {expected}")
        return saved

    def _stack(self, step: Step) -> Step:
        for name, shown in self._shown.items():
            self._shown[name] = stacked(shown, step.obs[name], step.is_first, frames=self._frames)
        return replace(step, obs=self._seen(step))

    def _seen(self, step: Step) -> dict[str, np.ndarray]:
        return {**step.obs, **{name: shown.copy() for name, shown in self._shown.items() if shown is not None}}


def stacked(shown: np.ndarray | None, newest: np.ndarray, is_first: np.ndarray, *, frames: int) -> np.ndarray:
    """Return images ``[N, frames * C, H, W]``: what was ``shown`` last, moved on by the ``newest`` ``[N, C, H, W]``.

    Where ``is_first [N]``, or nothing was shown, there are copies of the newest.
    """
    copies = np.tile(newest, (1, frames, 1, 1))
    if shown is not None:
        going = ~is_first
        copies[going] = np.concatenate([shown[going, newest.shape[1] :], newest[going]], 1)
    return copies


def check_frames(frames: int) -> None:
    """Raise ConfigurationError if this is no number of frames."""
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise ConfigurationError(f"frame_stack must be a whole number of at least 1, got {frames!r}")
