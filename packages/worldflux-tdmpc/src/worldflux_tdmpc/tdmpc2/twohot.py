"""Numbers as distributions over bins of equal width in symlog space (Hansen et al. 2024, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from worldflux.blocks import symexp, symlog


def encode(x: Tensor, *, bins: int, limit: float) -> Tensor:
    """Return ``x [...]`` as weights ``[..., bins]`` of the two bins beside ``symlog(x)``, which is cut to ``limit``.

    NaN stays NaN, in the weights of the first two.
    """
    place = (symlog(x.float()).clamp(-limit, limit) + limit) / (2 * limit / (bins - 1))
    below = place.floor()
    share = (place - below).unsqueeze(-1)
    index = below.nan_to_num(0.0).long().unsqueeze(-1)  # no index is ever made of a number that is none
    weights = torch.zeros(*x.shape, bins, device=x.device)
    weights.scatter_(-1, index, 1 - share)
    return weights.scatter_add_(-1, (index + 1) % bins, share)  # the last bin wraps around with a share of 0


def decode(logits: Tensor, *, limit: float) -> Tensor:
    """Return the numbers ``[...]`` that logits ``[..., bins]`` mean: symexp of the mean bin. Equal logits mean 0."""
    logits = logits.float()
    centres = torch.linspace(-limit, limit, logits.shape[-1], device=logits.device)
    return symexp((logits.softmax(-1) * centres).sum(-1))


def cross_entropy(logits: Tensor, x: Tensor, *, limit: float) -> Tensor:
    """Return the cross entropy ``[...]`` of logits ``[..., bins]`` with ``x`` as two bins; leading axes broadcast."""
    logits = logits.float()
    return -(encode(x, bins=logits.shape[-1], limit=limit) * logits.log_softmax(-1)).sum(-1)
