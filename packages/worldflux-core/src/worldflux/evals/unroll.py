"""What every measure of a world model stands on: watching real rows, and imagining the rows after them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from worldflux.core.state import State


@contextlib.contextmanager
def judging(model: Any, *, seed: int | None = None) -> Iterator[torch.device]:
    """Put a model in eval mode, without gradients, and give its device; afterwards it is as before.

    With a ``seed`` its own generators start from there, and go on afterwards from where they were.
    """
    was_training = model.training
    device = next(itertools.chain(model.parameters(), model.buffers())).device  # one may learn nothing
    before, own = {}, None
    if seed is not None and hasattr(model, "rng_state"):
        before = {name: value.clone() for name, value in model.rng_state().items()}
        own = model.generator(device).initial_seed()  # of a generator made just now: the model's seed
        model.seed(seed)
    model.eval()
    try:
        with torch.no_grad():
            yield device
    finally:
        model.train(was_training)
        if own is not None:
            model.seed(own)
            model.set_rng_state(before)


def watch(model: Any, obs: Mapping[str, Tensor], actions: Tensor, *, deterministic: bool = True) -> list[State]:
    """Return the state after each row of ``obs`` ``[B, T, ...]`` was seen; ``actions`` ``[B, T, A]``."""
    rows = actions.shape[1]
    states = [model.encode({name: value[:, 0] for name, value in obs.items()}, deterministic=deterministic)]
    for t in range(1, rows):
        now = {name: value[:, t] for name, value in obs.items()}
        states.append(model.update(states[-1], actions[:, t - 1], now, deterministic=deterministic))
    return states


def dream(model: Any, state: State, actions: Tensor, *, deterministic: bool = True) -> list[State]:
    """Return the H states that follow ``state`` under actions ``[B, H, A]``."""
    steps = actions.transpose(0, 1).contiguous()
    return list(model.rollout(state, steps, deterministic=deterministic).states[1:])


def predictions(model: Any, states: Sequence[State]) -> Iterator[dict[str, np.ndarray]]:
    """Give what the model predicts of each state, by name ``[B, ...]``, as float arrays."""
    for state in states:
        yield {name: value.float().cpu().numpy() for name, value in model.decode(state).preds.items()}


def as_floats(values: np.ndarray) -> np.ndarray:
    """Return observations in the units of decoded ones: images as floats in [0, 1], vectors as they are."""
    return values.astype(np.float64) / 255 if values.dtype == np.uint8 else values.astype(np.float64)
