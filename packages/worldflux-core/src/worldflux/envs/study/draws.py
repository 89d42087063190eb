"""Random numbers of many episodes at once, each a function of its own episode's seed and of nothing else."""

from __future__ import annotations

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """Numbers for N episodes, from their ``seeds [N]``, the name of what is drawn, and how often it was drawn before.

    So an episode gets the same ones however many stand beside it, and whatever they draw. Source: the SplitMix64
    generator of Steele, Lea and Flood 2014, by counter.
    """

    def __init__(self, seeds: np.ndarray) -> None:
        self.seeds = np.asarray(seeds, np.uint64).reshape(-1)

    def __len__(self) -> int:
        return len(self.seeds)

    def rows(self, which: np.ndarray) -> Draws:
        """Return the draws of some of the episodes."""
        return Draws(self.seeds[which])

    def salted(self, seed: int) -> Draws:
        """Return other draws for the same episodes, chosen by a seed."""
        return Draws(self._keys(f"salt {seed}", 0))

    def uniform(self, name: str, count: int | np.ndarray, *shape: int) -> np.ndarray:
        """Return numbers ``[N, *shape]`` float64 in [0, 1); ``count`` (one for all, or ``[N]``) numbers the draw."""
        size = int(np.prod(shape, dtype=np.int64))
        return ((self._bits(name, count, size) >> np.uint64(11)) * 2.0**-53).reshape(len(self), *shape)

    def bumps(self, name: str, count: int | np.ndarray, *shape: int) -> np.ndarray:
        """Return numbers ``[N, *shape]`` float32 of mean 0 and deviation 1: sums of two uniform ones."""
        bits = self._bits(name, count, int(np.prod(shape, dtype=np.int64)))
        halves = (bits >> np.uint64(32)).astype(np.float32) + (bits & np.uint64(0xFFFFFFFF)).astype(np.float32)
        return ((halves * np.float32(2.0**-32) - 1) * np.float32(6**0.5)).reshape(len(self), *shape)

    def _keys(self, name: str, count: int | np.ndarray) -> np.ndarray:
        stream = _mixed(np.full(1, zlib.crc32(name.encode()), np.uint64))
        counts = np.broadcast_to(np.asarray(count), (len(self),)).astype(np.uint64)
        return _mixed(_mixed(self.seeds ^ stream) + counts * _GOLDEN)

    def _bits(self, name: str, count: int | np.ndarray, size: int) -> np.ndarray:
        return _mixed(self._keys(name, count)[:, None] + np.arange(1, size + 1, dtype=np.uint64) * _GOLDEN)


def _mixed(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
