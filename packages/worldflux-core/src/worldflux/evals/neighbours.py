"""What a model without a decoder imagines, shown by real rows: the nearest neighbours of its latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .unroll import as_floats, judging, watch

if TYPE_CHECKING:
    from worldflux.core.state import State

    from .segments import Segments


class Neighbours:
    """Encodes the rows of a ``library`` of sequences; each imagined latent is shown by the nearest of them.

    The latent called "latent" is compared, else all tensors of numbers. Rows of the episode that is imagined are not
    shown: one of them is what there is to find. ``episodes [B]`` are those of the imagined sequences.
    """

    def __init__(self, model: Any, library: Segments, episodes: np.ndarray) -> None:
        with judging(model) as device:
            obs = {name: torch.as_tensor(value, device=device) for name, value in library.obs.items()}
            states = watch(model, obs, torch.as_tensor(library.actions, device=device))
        self._latents = torch.stack([_latent(state) for state in states], 1).flatten(0, 1)  # [L * T, D]
        self._obs = {name: value.reshape(-1, *value.shape[2:]) for name, value in library.obs.items()}
        rows = np.repeat(_episodes(library), library.rows)
        self._own = torch.as_tensor(rows[None] == np.asarray(episodes)[:, None], device=device)  # [B, L * T]

    @property
    def any(self) -> bool:
        """Whether there is a row to show for every sequence."""
        return bool((~self._own).any(1).all())

    def __call__(self, states: Sequence[State]) -> Iterator[dict[str, np.ndarray]]:
        """Give the observations of the nearest rows to each state, by name ``[B, ...]``, as floats."""
        for state in states:
            apart = torch.cdist(_latent(state), self._latents).masked_fill(self._own, torch.inf)
            nearest = apart.argmin(1).cpu().numpy()
            yield {name: as_floats(values[nearest]) for name, values in self._obs.items()}


def _latent(state: State) -> Tensor:
    if "latent" in state:
        return state["latent"].float().flatten(1)
    floats = [value.float() for value in state.tensors.values() if value.is_floating_point()]
    return torch.cat([value.reshape(len(value), -1) for value in floats], 1)


def _episodes(segments: Segments) -> np.ndarray:
    return np.arange(segments.sequences) if segments.episodes is None else segments.episodes
