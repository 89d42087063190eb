"""What an environment looks like, as its observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from worldflux.core.errors import ConfigurationError


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return an RGB image ``[H, W, 3]`` as ``[3, size, size]``, uint8; each pixel is the mean of the area it covers."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    return interpolate(pixels, size=(size, size), mode="area")[0].round_().to(torch.uint8).numpy()


class PixelEnv:
    """An environment whose observation is its rendered image ``[3, size, size]`` uint8.

    It is one of Gymnasium's, or a :class:`~worldflux.envs.DmEnv`.

    Raises:
        ConfigurationError: it was not made with ``render_mode="rgb_array"``.
    """

    def __init__(self, env: Any, *, size: int) -> None:
        from gymnasium.spaces import Box

        if env.render_mode != "rgb_array":
            raise ConfigurationError(
                f"pixels need an environment made with render_mode='rgb_array' (a dm_env.Environment: one with a "
                f"physics, or DmEnv(env, render=...)), this one has {env.render_mode!r}"
            )
        self._env, self._size = env, size
        self.observation_space = Box(0, 255, (3, size, size), np.uint8)
        self.action_space = env.action_space

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; see ``gymnasium.Env.reset``."""
        _, info = self._env.reset(seed=seed)
        return resize(self._env.render(), self._size), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take an action; see ``gymnasium.Env.step``."""
        _, reward, terminated, truncated, info = self._env.step(action)
        return resize(self._env.render(), self._size), reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
