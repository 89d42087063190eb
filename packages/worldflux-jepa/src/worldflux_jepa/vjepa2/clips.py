"""Clips cut from sequences of rows, each within one episode, and the masks to predict them under.

Letters: B sequences, T rows, L frames of a clip.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from worldflux import Batch

from .masks import Masks


class Clips(NamedTuple):
    """Clips of one length, normalised ``[B, L, C, H, W]``; which of them count ``[B]``, in 0 and 1; their masks."""

    video: Tensor
    counts: Tensor
    masks: list[Masks]


def rows_that_begin(batch: Batch, like: Tensor) -> tuple[Tensor, Tensor]:
    """Where an episode begins, and where a row counts, ``[B, T]`` each, for frames ``like [B, T, ...]``."""
    shape = like.shape[:2]
    begins = torch.zeros(shape, dtype=torch.bool, device=like.device)
    counts = torch.ones(shape, dtype=torch.bool, device=like.device)
    return (
        begins if batch.is_first is None else batch.is_first > 0,
        counts if batch.mask is None else batch.mask > 0,
    )


def cut(begins: Tensor, counts: Tensor, start: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Which rows make clips from ``start [B]`` on, ``[B, L]``, and which clips count, ``[B]`` in 0 and 1.

    Where another episode begins, or rows no longer count, the last frame before is repeated: a clip never shows two
    episodes. One whose first row does not count counts for nothing.
    """
    steps = torch.arange(length, device=start.device)
    rows = start.unsqueeze(1) + steps
    left = (begins.gather(1, rows) & (steps > 0)) | ~counts.gather(1, rows)
    inside = (left.cumsum(1) == 0).sum(1)  # frames before the episode is left
    return start.unsqueeze(1) + torch.minimum(steps, (inside - 1).clamp(min=0).unsqueeze(1)), (inside > 0).float()
