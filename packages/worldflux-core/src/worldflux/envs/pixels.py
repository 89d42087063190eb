"""What an environment looks like, as its observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from worldflux.core.errors import ConfigurationError, ValidationError


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image ``[C, H, W]`` as ``[C, size, size]``, uint8; each pixel is the mean of the area it covers."""
    if image.shape[1:] == (size, size):
        return image
    pixels = torch.from_numpy(np.ascontiguousarray(image))[None].float()
    return interpolate(pixels, size=(size, size), mode="area")[0].round_().to(torch.uint8).numpy()


def picture(rendered: Any) -> np.ndarray:
    """Return what an environment rendered, ``[H, W, 3]``, ``[H, W, 4]``, ``[H, W, 1]`` or ``[H, W]``, as ``[3, H, W]``.

    Bytes are taken as they are, booleans and floats from 0 to 1 as fractions of full brightness. Raises ValidationError
    for anything else: what scale it has cannot be told.
    """
    image = np.asarray(rendered)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise ValidationError(
            f"the environment rendered {_described(rendered)}, expected a picture [height, width, 3] (1 or 4 will do)"
        )
    if image.dtype.kind in "bf":
        fraction = image.astype(np.float64)
        if not ((fraction >= 0) & (fraction <= 1)).all():  # false for NaN, too
            low, high = fraction.min(), fraction.max()
            raise ValidationError(
                f"the environment rendered {image.dtype} pixels from {low:g} to {high:g}, expected uint8 from 0 to "
                "255, or floats from 0 to 1: convert them in its render()"
            )
        image = np.rint(fraction * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValidationError(
            f"the environment rendered {image.dtype} pixels, whose full brightness is not known, expected uint8 from 0 "
            "to 255, or floats from 0 to 1: convert them in its render()"
        )
    channels = image[..., :3] if image.shape[2] >= 3 else np.repeat(image, 3, axis=2)  # without its transparency
    return channels.transpose(2, 0, 1)


def _described(rendered: Any) -> str:
    if rendered is None or isinstance(rendered, str):
        return "nothing" if rendered is None else "text"
    return f"an array of shape {np.shape(rendered)}" if isinstance(rendered, np.ndarray) else type(rendered).__name__


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
        return resize(picture(self._env.render()), self._size), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Take an action; see ``gymnasium.Env.step``."""
        _, reward, terminated, truncated, info = self._env.step(action)
        return resize(picture(self._env.render()), self._size), reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
