"""Every draw of one planning call, made before the search, so that the search itself is a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from worldflux.core.state import map_tensors


@dataclass
class Noise:
    """What a search draws from. Letters: E environments, I iterations, N samples, K elites, H horizon, A action.

    ``samples``: one ``[E, N, H, A]`` per iteration, as ``ActionSpace.noise`` draws it (random shooting: actions).
    ``explore [E, A]``: for the first action where the caller explores.
    ``objective``: what the objective drew, one dict per iteration, rows ``E * N``.
    ``choice [E, K]``: Gumbel noise that picks an elite (MPPI; None: the best is picked).
    ``proposals``: what the model's policy drew (MPPI).
    ``shift [E, K', A]``: last actions of the elites kept from the previous call (iCEM).
    """

    samples: list[Tensor]
    explore: Tensor
    objective: list[dict[str, Tensor]] = field(default_factory=list)
    choice: Tensor | None = None
    proposals: dict[str, Tensor] = field(default_factory=dict)
    shift: Tensor | None = None

    def to(self, device: torch.device) -> Noise:
        """The same noise on another device."""
        return Noise(**map_tensors(vars(self), lambda value: value.to(device)))


def joined(each: list[Noise], *, shared: Noise, two: Noise) -> Noise:
    """The noise of several environments from that of ``each`` one.

    ``two`` was drawn for two environments, ``shared`` for one: the axis in which a tensor is longer in ``two`` is that
    of its rows. Tensors that are of one size in both serve all rows, and are those of ``shared``.
    """

    def join(single: Any, double: Any, *own: Any) -> Any:
        if not isinstance(single, Tensor):
            return single
        axes = [axis for axis in range(single.ndim) if single.shape[axis] != double.shape[axis]]
        return torch.cat(own, axes[0]) if axes else single

    return Noise(**pytree.tree_map(join, vars(shared), vars(two), *(vars(noise) for noise in each)))


def coloring(horizon: int, exponent: float, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Matrix ``[H, H]`` that turns white noise over time into noise of power spectrum ``1 / f ** exponent``.

    Every entry of the result has variance 1. The zero frequency gets the power of the lowest one above it, as in
    Timmer and Koenig 1995, "On generating power law noise".
    """
    frequency = torch.fft.rfftfreq(horizon, dtype=torch.float64)
    frequency[0] = 1 / horizon
    white = torch.eye(horizon, dtype=torch.float64)
    colored = torch.fft.irfft(torch.fft.rfft(white) * frequency ** (-exponent / 2), n=horizon)
    colored = colored / colored.square().sum(0).sqrt()
    return colored.to(device=device, dtype=dtype)
