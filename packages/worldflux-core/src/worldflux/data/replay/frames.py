"""Stacks of frames that are kept as single frames: taken apart as they come, and whole again in a batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from worldflux.core.errors import BufferError
from worldflux.envs.stack import stacked
from worldflux.words.counts import counted

from .tiers import Tier


class Frames:
    """What a replay does with the observations that are stacks, as :class:`~worldflux.envs.FrameStack` makes them."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._shown: dict[str, np.ndarray] = {}  # the stacks of the newest row

    def split(self, row: dict[str, np.ndarray], *, number: int) -> dict[str, np.ndarray]:
        """Return a row with the newest frame in place of each stack.

        Raises BufferError where a stack does not go on from the row before it: its other frames would be lost.
        """
        if not self._tier.stacks:
            return row
        out = dict(row)
        for name, frames in self._tier.stacks.items():
            stack = out.pop(f"obs/{name}")
            newest = stack[:, -stack.shape[1] // frames :]
            wanted = stacked(self._shown.get(name), newest, row["is_first"], frames=frames)
            if not np.array_equal(stack, wanted):
                same = (stack == wanted).reshape(len(stack), -1).all(axis=1)
                raise BufferError(
                    f"{name!r} of environment {int(np.argmin(same))} at row {number} is no stack of the last "
                    f"{counted(frames, 'frame')}, the oldest first, with the episode's first in place of earlier ones: "
                    "make the environment with frame_stack, or leave it out of frame_stacks"
                )
            out[f"frames/{name}"] = newest
        return out

    def keep(self, row: Mapping[str, np.ndarray]) -> None:
        """Take note of a row that was stored."""
        self._shown = {name: np.array(row[f"obs/{name}"]) for name in self._tier.stacks}

    def ages(self, since: np.ndarray) -> np.ndarray:
        """Return how many frames of its episode are before a row, of those that a stack has a use for."""
        most = max(self._tier.stacks.values(), default=1) - 1
        return np.minimum(since, most) if most else since

    def heads(self, *, oldest: int, stop: int) -> dict[str, np.ndarray]:
        """Return ``head/NAME`` ``[streams, frames - 1, …]``: what the stack of the oldest row shows beside its own."""
        stacks = self._stacks(oldest if oldest < stop else None)
        out = {}
        for name, stack in stacks.items():
            field = self._tier.stored[f"frames/{name}"]
            out[f"head/{name}"] = stack.reshape(len(stack), -1, *field.shape)[:, :-1]
        return out

    def load(self, heads: Mapping[str, np.ndarray], *, oldest: int, stop: int) -> None:
        """Go on with the rows that were just stored, whose frames before the oldest are ``heads``."""
        if not self._tier.stacks:
            return
        for name, frames in self._tier.stacks.items():
            self._tier.fill({f"frames/{name}": heads[f"head/{name}"]}, first=oldest - frames + 1)
        first, rows = self._tier.read("is_first", oldest, stop), np.arange(stop - oldest)
        begun = np.maximum.accumulate(np.where(first, rows, -(1 << 16)), axis=1)
        self._tier.age[:, (oldest + rows) % self._tier.rows] = self.ages(rows - begun)
        self._shown = self._stacks(stop - 1) if oldest < stop else {}

    def _stacks(self, row: int | None) -> dict[str, np.ndarray]:
        """The stacks at a row, ``[streams, …]``; zeros where there is none."""
        tier, out = self._tier, {}
        if row is not None and tier.stacks:
            found = tier.gather(np.arange(tier.streams), np.full(tier.streams, row), 1)
            return {name: found[f"obs/{name}"][:, 0].cpu().numpy() for name in tier.stacks}
        for name, frames in tier.stacks.items():
            channels, *size = tier.stored[f"frames/{name}"].shape
            dtype = tier.stored[f"frames/{name}"].dtype
            out[name] = np.zeros((tier.streams, frames * channels, *size), dtype)
        return out
