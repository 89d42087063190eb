"""Whether the energy that plans are made by knows the way: its rank correlation with the true distance, and how the
plan of who knows the way does among random ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldflux.core.model import WorldModel
from worldflux.core.state import State
from worldflux.envs import Step
from worldflux.planners import Problem

from ..bootstrap import Resampler
from ..statistics import mean_of, ranks_of
from .trials import Trials

SNAPSHOTS = 10  # rows of an episode, at most, whose energy is compared with their distance
CANDIDATES = 128  # random plans that the oracle's is put among
Encode = Callable[[Step], State]


class Distances:
    """Collects energies and true distances of rows that were met; to be called at each of them."""

    def __init__(self, trials: Trials, encode: Encode, energy: Callable[[State], Tensor]) -> None:
        self._env, self._encode, self._energy = trials.env, encode, energy
        self._every, self._rows = max(1, trials.budget // SNAPSHOTS), 0
        self._found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __call__(self, step: Step, going: np.ndarray) -> None:
        """Take note of every so-manieth row, of the episodes that are under way."""
        if self._rows % self._every == 0:
            energy = self._energy(self._encode(step)).float().cpu().numpy().reshape(-1)
            self._found.append((np.flatnonzero(going), energy[going], self._env.distance()[going]))
        self._rows += 1

    def correlation(self, *, seed: int) -> dict[str, Any]:
        """Return Spearman's rank correlation of energy and distance, and over how many states; nothing if undefined."""
        if not self._found:
            return {}
        episodes, energy, distance = (np.concatenate(column) for column in zip(*self._found, strict=True))
        known = np.isfinite(energy) & np.isfinite(distance)
        if not known.any():
            return {}
        sums = ranks_of(energy[known, None], distance[known, None])
        curve = Resampler(episodes[known], seed=seed).curve(sums)
        return {} if curve is None else {"rank_correlation": curve.mean.to_dict(), "states": int(known.sum())}


def oracle_rank(
    model: WorldModel, trials: Trials, encode: Encode, objective: Any, *, horizon: int, frame_skip: int
) -> dict[str, Any]:
    """Return the share of random plans that the model holds to be better than the oracle's: 0 is as it should be.

    Both have ``horizon`` actions, fewer where an episode is shorter. Nothing for environments without an oracle
    (``oracle()``, the best flat actions ``[N, A]`` of the rows given last).
    """
    ask = getattr(trials.env, "oracle", None)
    if ask is None:
        return {}
    state = encode(trials.begin())
    begun = ~trials.env.success()
    done: list[np.ndarray] = []
    length = min(horizon, trials.budget // frame_skip)
    while len(done) < length * frame_skip:
        done.append(np.asarray(ask(), np.float32))
        if trials.env.step(done[-1]).is_last.any():
            break
    length = len(done) // frame_skip
    if not length or not begun.any():
        return {}
    problem = Problem.of(model, state, objective)
    own = np.concatenate(done[: length * frame_skip], 1).reshape(len(begun), length, -1)
    generator = torch.Generator(problem.device).manual_seed(trials.seed)
    plans = problem.space.uniform(len(begun), CANDIDATES, length, generator=generator, dtype=problem.dtype)
    plans = torch.cat([torch.as_tensor(own).to(plans).unsqueeze(1), plans], 1)
    scores = problem.scorer(CANDIDATES + 1)(problem.space.clip(plans), {})
    better = (scores[:, 1:] > scores[:, :1]).double().mean(1).cpu().numpy()[begun]
    curve = Resampler(np.arange(len(better)), seed=trials.seed).curve(mean_of(better[:, None]))
    return {} if curve is None else {**curve.mean.to_dict(), "candidates": CANDIDATES, "horizon": length}
