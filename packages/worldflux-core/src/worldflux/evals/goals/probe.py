"""What a linear map reads out of a model's latents: a named state, so that it can be a goal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.model import WorldModel
from worldflux.core.state import State

from ..drawing import draw_segments, observed
from ..horizon.probes import Ridge
from ..statistics import explained, fit_of
from ..unroll import judging

if TYPE_CHECKING:
    from worldflux.data import Dataset

ROWS = 2048  # that a probe is fitted on and judged by
JUDGED = 4  # one episode in so many is not fitted on


@dataclass(frozen=True)
class LinearProbe:
    """Reads ``state @ weight + bias``, ``[B, S]``, out of the tensor ``key`` of states; ``r2`` on other episodes."""

    key: str
    weight: Tensor
    bias: Tensor
    r2: float

    def __call__(self, state: State) -> Tensor:
        """Named states ``[B, S]``."""
        latent = state[self.key].flatten(1)
        return latent @ self.weight.to(latent) + self.bias.to(latent)


def fit_probe(
    model: WorldModel, data: Dataset, name: str, *, key: str | None = None, frame_skip: int = 1, seed: int = 0
) -> LinearProbe:
    """Fit a ridge regression from latents of rows to what ``data`` calls ``name``: a column of ``info``, or a vector.

    Raises:
        ConfigurationError: there is no such column, it is no vector of numbers, or there are fewer than two episodes.
    """
    seen = observed(model, data, frame_skip=frame_skip)
    segments, _ = draw_segments(seen, sequences=ROWS, rows=1, seed=seed, also=data, stand_ins=False)
    named = {**segments.obs, **segments.info}
    if name not in named:
        raise ConfigurationError(f"the data has no {name!r}, it has {sorted(named)}.{did_you_mean(name, named)}")
    wanted = named[name][:, 0]
    if wanted.dtype.kind not in "fiu" or wanted.ndim > 2:
        raise ConfigurationError(f"{name!r} is {wanted.dtype} {list(wanted.shape[1:])}, expected a vector of numbers")
    targets = wanted.reshape(len(wanted), -1).astype(np.float64)
    assert segments.episodes is not None
    episodes = np.unique(segments.episodes, return_inverse=True)[1]
    if episodes.max(initial=0) < 1:
        raise ConfigurationError("a probe is fitted on some episodes and judged on others: record at least two")
    key, latents = _latents(model, {one: value[:, 0] for one, value in segments.obs.items()}, key)
    fitted = episodes % JUDGED != JUDGED - 1 if episodes.max() >= JUDGED - 1 else episodes > 0
    ridge = Ridge(latents[fitted], targets[fitted])
    sums = fit_of(ridge(latents[~fitted])[:, None], targets[~fitted][:, None])
    weight, bias = ridge.map()
    r2 = float(explained(sums.values.sum(1))[0])
    return LinearProbe(key, torch.as_tensor(weight), torch.as_tensor(bias), r2)


def _latents(model: WorldModel, obs: dict[str, np.ndarray], key: str | None) -> tuple[str, np.ndarray]:
    found: list[Any] = []
    with judging(model) as device:
        for start in range(0, len(next(iter(obs.values()))), 256):
            batch = {n: torch.as_tensor(value[start : start + 256], device=device) for n, value in obs.items()}
            state = model.encode(batch, deterministic=True)
            key = key or ("latent" if "latent" in state else next(iter(state.tensors)))
            found.append(state[key].float().flatten(1).cpu().numpy())
    assert key is not None
    return key, np.concatenate(found).astype(np.float64)
