"""What a V-JEPA 2-AC learns from: pure functions of tensors.

Letters: B clips, T frames, S steps predicted, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .window import Frames


def normed(tokens: Tensor, *, eps: float) -> Tensor:
    """Tokens ``[..., D]``, each with mean 0 and deviation 1, in float32; no weights."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:], eps=eps)


def missed(predicted: Tensor, seen: Tensor, counts: Tensor, *, exponent: float) -> Tensor:
    """The mean of ``|predicted - seen|^p / p`` over steps ``[B, S, N, D]`` that count ``[B, S]``; 0 where none does."""
    apart = ((predicted - seen).abs() ** exponent / exponent).mean((2, 3))
    return (apart * counts).sum() / counts.sum().clamp(min=1)


def unrolled(predict: Callable[[Frames], Tensor], frames: Frames, forced: Tensor, *, steps: int) -> Tensor:
    """What is predicted ``steps`` times on end from the first of the frames ``[B, T, N, D]``: ``[B, steps, N, D]``.

    ``forced [B, T, N, D]`` is predicted of each frame as it was, and its first is where the rollout begins; actions and
    vectors are those recorded. ``predict`` says what follows each frame ``[B, T, N, D]``.
    """
    found = forced[:, :1]
    for step in range(1, steps):
        latest = predict(frames.first(step + 1).followed(found))[:, -1:]
        found = torch.cat([found, latest], 1)
    return found
