"""What a V-JEPA 2 learns from: pure functions of tensors.

Letters: B clips, N tokens, M hidden ones, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def normalised_targets(tokens: Tensor, *, eps: float) -> Tensor:
    """Tokens ``[..., D]`` with their own mean taken off and divided by their own deviation, in float32."""
    return F.layer_norm(tokens.float(), tokens.shape[-1:], eps=eps)


def masked_loss(predicted: Tensor, target: Tensor, *, exponent: float) -> Tensor:
    """``mean |predicted - target|^p / p`` of each clip ``[B]``, over hidden tokens ``[B, M, D]``."""
    apart = (predicted.float() - target).abs()
    return (apart if exponent == 1 else apart**exponent / exponent).flatten(1).mean(1)


def mean_token_loss(target: Tensor, *, exponent: float) -> Tensor:
    """What ``masked_loss`` would be, over all clips, if every hidden token ``[B, M, D]`` were the mean of them all."""
    mean = target.flatten(0, 1).mean(0).expand_as(target)
    return masked_loss(mean, target, exponent=exponent).mean()


def averaged(losses: Tensor, counts: Tensor) -> Tensor:
    """The mean of losses ``[B]`` over the clips that count, ``counts [B]`` in 0 and 1; 0 where none does."""
    return (losses * counts).sum() / counts.sum().clamp(min=1)
