"""Statistics of a batch that several processes hold parts of, all of one size, as DistributedDataParallel wants them.

The gradients are those of the whole: averaged over the processes they are what one process with the whole batch has.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def processes() -> int:
    """How many processes train one model together; 1 where nothing is said of others."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def added_up(part: Tensor) -> Tensor:
    """The sum of what each process has, of any shape, in every process."""
    added: Tensor = part if processes() == 1 else _AddedUp.apply(part)
    return added


def mean_of_parts(mean: Tensor) -> Tensor:
    """The mean over the whole batch, of the means over each process's part."""
    return added_up(mean) / processes()


def from_first(drawn: Tensor) -> Tensor:
    """What the first process drew, in every process."""
    if processes() > 1:
        torch.distributed.broadcast(drawn, 0)
    return drawn


class _AddedUp(torch.autograd.Function):
    """A sum over processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _all_reduced(part)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all_reduced(gradients[0])


def _all_reduced(part: Tensor) -> Tensor:
    total = part.contiguous().clone()
    torch.distributed.all_reduce(total)
    return total
