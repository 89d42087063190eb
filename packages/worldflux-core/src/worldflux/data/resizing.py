"""Recorded images in another size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.envs.pixels import resize

from .dataset import Dataset
from .recording import Recording


def resized(dataset: Dataset, size: int) -> Dataset:
    """Return the same episodes with every image ``[C, size, size]``, as environments are resized: by the mean of areas.

    Raises ConfigurationError if no observation is an image.
    """
    images = {name: spec for name, spec in dataset.obs_spec.items() if spec.kind.value == "image"}
    if not images:
        raise ConfigurationError(
            f"image_size is {size}, but {dataset.title} shows no image, only {sorted(dataset.obs_spec)}: leave it out"
        )
    if all(spec.shape[1:] == (size, size) for spec in images.values()):
        return dataset
    return dataset.over(_Resized(dataset.recording, size, tuple(images)))


class _Resized(Recording):
    """A recording whose images have other sizes than those of another one."""

    def __init__(self, inner: Recording, size: int, images: tuple[str, ...]) -> None:
        self._inner, self._size, self._images = inner, size, {f"obs/{name}" for name in images}
        specs = {
            name: replace(spec, shape=(spec.shape[0], size, size)) if name in images else spec
            for name, spec in inner.obs_spec.items()
        }
        super().__init__(
            format=inner.format,
            place=inner.place,
            obs_spec=specs,
            action_spec=inner.action_spec,
            episodes=inner.episodes,
            columns=inner.columns,
            info_spec=dict(inner.info_spec),
            remarks=inner.remarks,
            provenance={**inner.provenance, "image_size": size},
            files=inner.files,
            action_bounds=inner.action_bounds,
        )

    @property
    def has_rewards(self) -> bool:
        return self._inner.has_rewards

    @property
    def names(self) -> tuple[str, ...]:
        return self._inner.names

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self._inner.fingerprint} image_size {self._size}".encode()).hexdigest()

    @property
    def frame_stack(self) -> Mapping[str, int]:
        return self._inner.frame_stack

    def read(self, name: str, episode: int, start: int, stop: int, step: int = 1) -> np.ndarray:
        return self._shown(name, self._inner.read(name, episode, start, stop, step))

    def gather(self, name: str, episodes: Any, starts: Any, length: int, step: int = 1) -> np.ndarray:
        return self._shown(name, self._inner.gather(name, episodes, starts, length, step))

    def close(self) -> None:
        self._inner.close()

    def _shown(self, name: str, rows: np.ndarray) -> np.ndarray:
        if name not in self._images:
            return rows
        out = np.empty((*rows.shape[:-2], self._size, self._size), np.uint8)
        for place in np.ndindex(rows.shape[:-3]):  # one by one: as floats all of them would take four times the room
            out[place] = resize(rows[place], self._size)
        return out
