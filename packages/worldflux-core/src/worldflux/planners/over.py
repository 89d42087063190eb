"""Of which states of a plan the energies count, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError

Over = Literal["last", "sum"] | float


def check_over(over: Over) -> None:
    """Raise ConfigurationError unless ``over`` is ``"last"``, ``"sum"`` or a number from 0 to 1."""
    known = isinstance(over, str) and over in ("last", "sum")
    share = isinstance(over, (int, float)) and not isinstance(over, bool) and 0 <= over <= 1
    if not known and not share:
        raise ConfigurationError(
            "over must be 'last', 'sum', or a number from 0 to 1 (what a state counts, where the next one counts 1), "
            f"got {over!r}"
        )


def added_up(energies: Sequence[Tensor], over: Over) -> Tensor:
    """The energy ``[B]`` of a trajectory from those of its states after the first; of ``"last"`` from that of its last.

    A number below 1 makes haste without shunning detours: of two plans that end at the goal the one that is there
    earlier is better, and what is passed long before the end hardly counts.
    """
    decay = 1.0 if isinstance(over, str) else over
    last = len(energies) - 1
    return torch.stack([energy * decay ** (last - t) for t, energy in enumerate(energies)]).sum(0)
