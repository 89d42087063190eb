"""Training or evaluation mode for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def mode(model: torch.nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode, after which each module is in the mode it was in."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
