"""What a model holds a state to be worth, and what was really earned from there on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from worldflux.core.spec import Capability

if TYPE_CHECKING:
    from worldflux.core.state import State
    from worldflux.data import Dataset

UNSEEN = 0.05  # of a return, that the rows after a truncated episode's end may weigh at most


@runtime_checkable
class JudgesStates(Protocol):
    """A model that says what a state is worth without drawing anything."""

    def state_value(self, state: State) -> Tensor:
        """Return the value ``[B]`` of each state: the discounted return, in reward's units, from there on."""
        ...


def value_of(model: Any, *, seed: int) -> Callable[[State], Tensor] | None:
    """Return what gives the value ``[B]`` of states, or None where the model has none that can be asked for.

    That is ``state_value`` (see :class:`JudgesStates`), else what the model offers planners.
    """
    if not hasattr(model, "supports") or not model.supports(Capability.VALUE):
        return None
    if isinstance(model, JudgesStates):
        return model.state_value
    if not (hasattr(model, "value_noise") and hasattr(model, "terminal_value")):  # worldflux.planners.OffersValue
        return None

    def offered(state: State) -> Tensor:
        generator = torch.Generator(state.device).manual_seed(seed)
        noise = model.value_noise(state.batch_size, generator=generator, device=state.device)
        worth: Tensor = model.terminal_value(state, noise)
        return worth

    return offered


def discount_of(model: Any) -> float | None:
    """Return the discount that a model's values are meant under; None where its config states none, or several."""
    config = getattr(model, "config", None)
    for stated in (getattr(config, "discount", None), getattr(config, "discounts", None)):
        several = [stated] if isinstance(stated, (int, float)) else list(stated) if isinstance(stated, Sequence) else []
        if several and len(set(several)) == 1 and 0 < several[0] <= 1:
            return float(several[0])
    return None


def carried_discount(model: Any) -> float:
    """Return the discount that a model's chance to go on carries already: 1 where its config does not say that it does.

    Such a config has ``discounted_continue``, as DreamerV3's: the chance is learned as that times the discount.
    """
    carries = getattr(getattr(model, "config", None), "discounted_continue", False)
    return (discount_of(model) if carries is True else None) or 1.0


def earned(
    dataset: Dataset, episodes: np.ndarray, starts: np.ndarray, rows: int, *, discount: float, frame_skip: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the discounted returns ``[B, rows]`` after each kept row, and which of them are known.

    That of a row is known where its episode ended in truth, or where what came after a truncated end would weigh less
    than 5 %. The last row of an episode has no return of its own. ``discount`` is that of a decision, of which there is
    one for each ``frame_skip`` rows.
    """
    returns, known = np.zeros((len(starts), rows)), np.zeros((len(starts), rows), bool)
    found: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    for b, (episode, start) in enumerate(zip(episodes.tolist(), starts.tolist())):
        where = (episode, start % frame_skip)
        if where not in found:
            found[where] = _earned(dataset, *where, discount=discount, frame_skip=frame_skip)
        here = slice(start // frame_skip, start // frame_skip + rows)
        returns[b], known[b] = (values[here] for values in found[where])
    return returns, known


def _earned(
    dataset: Dataset, episode: int, first: int, *, discount: float, frame_skip: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of every kept row of an episode, from ``first`` on, the return and whether it is known."""
    paid = dataset.column("reward", episode).astype(np.float64).cumsum()
    kept = np.arange(first, len(paid), frame_skip)
    ahead = np.minimum(kept + frame_skip, len(paid) - 1)
    returns, own = np.zeros(len(kept)), 0.0
    for t in range(len(kept) - 1, -1, -1):
        own = paid[ahead[t]] - paid[kept[t]] + discount * own
        returns[t] = own
    left = len(paid) - 1 - kept
    weighs = discount ** (left / frame_skip)
    return returns, (left > 0) & (bool(dataset.episodes.terminal[episode]) | (weighs <= UNSEEN))
