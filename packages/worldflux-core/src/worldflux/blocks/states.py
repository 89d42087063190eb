"""Comparing what models are made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def compare_states(
    first: nn.Module | Mapping[str, Tensor], second: nn.Module | Mapping[str, Tensor], *, tolerance: float = 0.0
) -> list[str]:
    """Say in what two models, or their states, differ: one line a tensor, none where they are equal.

    Named are tensors that one of them lacks, other shapes and dtypes, and numbers more than ``tolerance`` apart. NaN
    equals NaN.
    """
    one, other = (part.state_dict() if isinstance(part, nn.Module) else part for part in (first, second))
    found = [f"{name}: only in the first" for name in one if name not in other]
    found += [f"{name}: only in the second" for name in other if name not in one]
    for name, value in one.items():
        if name in other and (difference := _difference(value, other[name], tolerance)):
            found.append(f"{name}: {difference}")
    return found


def _difference(one: Tensor, other: Tensor, tolerance: float) -> str:
    if one.shape != other.shape:
        return f"shape {tuple(one.shape)}, then {tuple(other.shape)}"
    if one.dtype != other.dtype:
        return f"dtype {one.dtype}, then {other.dtype}"
    a, b = one.detach().cpu().double(), other.detach().cpu().double()
    wrong = ~torch.isclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True)
    if not bool(wrong.any()):
        return ""
    return f"{int(wrong.sum())} of {wrong.numel()} numbers differ, by up to {float((a - b)[wrong].abs().max()):.3g}"
