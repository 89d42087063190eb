"""Acting is done in eval mode, whatever mode the model is in otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def acting(policy: Any) -> Iterator[None]:
    """Have every module of ``policy.model`` in eval mode meanwhile, and each in its own mode again afterwards.

    Nothing happens for a policy without a model, or whose model is not in training.
    """
    model: Any = getattr(policy, "model", None)
    trains = isinstance(model, nn.Module) and model.training
    training = [part for part in model.modules() if part.training] if trains else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
