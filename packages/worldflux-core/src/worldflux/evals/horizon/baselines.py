"""What a world model has to beat: the last row again, the mean, another episode's actions, and itself untrained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from worldflux.core.errors import WorldFluxError

from ..unroll import as_floats

if TYPE_CHECKING:
    from worldflux.data import Dataset

    from ..segments import Segments

MEAN_ROWS = 4096  # of the training data, at most, that a mean is taken over
AT_ONCE = 64  # of them, read together


@dataclass(frozen=True)
class Means:
    """The means that predictions are held against, and what they were taken over (``source``, ``rows``)."""

    source: str
    rows: int
    obs: dict[str, np.ndarray] = field(default_factory=dict)
    reward: float | None = None
    goes_on: float = 1.0


def means_for(segments: Segments, context: int, training: Dataset | None, *, frame_skip: int = 1) -> Means:
    """Return the means over the training data where there is any, else over the rows seen before imagining begins.

    Of ``frame_skip`` rows of the training data one is kept, which is paid what all of them were.
    """
    arrived = segments.rewards[:, min(1, context - 1) : context]  # the first may be an episode's, which pays nothing
    rewards = float(arrived.mean()) if segments.has_rewards else None
    obs = {name: as_floats(value[:, :context]).mean((0, 1)) for name, value in segments.obs.items()}
    if training is None:
        return Means("contexts", segments.sequences * context, obs, rewards)
    means = _means_of(training, [name for name in training.obs_spec if name in obs])
    same = {name: mean for name, mean in means.obs.items() if name in obs and mean.shape == obs[name].shape}
    paid = None if means.reward is None else means.reward * frame_skip
    return replace(means, obs={**obs, **same}, reward=paid, goes_on=max(0.0, 1 - frame_skip * (1 - means.goes_on)))


def _means_of(dataset: Dataset, obs: list[str]) -> Means:
    """Means over the rows of a dataset, of some drawn from them where there are many.

    What is imagined was led to by an action: the first row of an episode, which pays nothing and ends nothing, is none
    of those that rewards and ends are means over. A stand-in's observation counts nowhere.
    """
    table, totals = dataset.episodes, dict[str, Any]()
    ends = np.cumsum(table.lengths)
    places = np.arange(table.rows)
    if table.rows > MEAN_ROWS:  # every n-th would meet the same row of all episodes that are n long
        places = np.sort(np.random.default_rng(0).choice(table.rows, MEAN_ROWS, replace=False))
    episodes = np.searchsorted(ends, places, side="right")
    rows = places - (ends - table.lengths)[episodes]
    real = ~(table.stand_in[episodes] & (rows == table.lengths[episodes] - 1))
    for start in range(0, len(places), AT_ONCE):
        here = slice(start, start + AT_ONCE)
        batch = dataset.batch(episodes[here], rows[here], 1, obs=obs)
        for name, value in batch.obs.items():
            totals[name] = totals.get(name, 0) + as_floats(value.numpy()[real[here], 0]).sum(0)
        if batch.rewards is not None:
            totals["wf.reward"] = totals.get("wf.reward", 0.0) + float(batch.rewards.sum())
    reward, shown, led_to = totals.pop("wf.reward", None), max(1, int(real.sum())), max(1, int((rows > 0).sum()))
    return Means(
        "training data",
        int(real.sum()),
        {name: np.asarray(total / shown) for name, total in totals.items()},
        None if reward is None else reward / led_to,
        1 - float(table.terminal.sum()) / max(1, table.rows - len(table)),
    )


def others_actions(episodes: np.ndarray, *, seed: int) -> np.ndarray | None:
    """Return for each of B sequences one of another episode, whose actions it gets; None where there is one episode.

    Sequences are put in line episode by episode, in a drawn order, and each takes the one half the line further on:
    no episode that holds at most half of the sequences meets itself. Of a larger one some do, and get the first of
    another.
    """
    names, group = np.unique(episodes, return_inverse=True)
    if len(names) < 2:
        return None
    rng = np.random.default_rng(seed)
    line = np.lexsort((rng.random(len(episodes)), rng.permutation(len(names))[group]))
    taken = np.empty(len(line), np.int64)
    taken[line] = np.roll(line, -(len(line) // 2))
    for here in np.flatnonzero(group[taken] == group):
        taken[here] = rng.choice(np.flatnonzero(group != group[here]))
    return taken


def untrained(model: Any) -> Any | None:
    """Return the model as it was before it learned: same config and parts, fresh weights from the config's seed.

    None where it cannot be built again: a model that is no family's, or with parts that have no id. A model whose
    weights others trained says by a method ``untrained`` what it is without them.
    """
    if face := getattr(model, "untrained", None):
        return face().to(next(iter(model.state_dict().values())).device)
    config, parts = getattr(model, "config", None), getattr(model, "component_ids", None)
    if config is None or parts is None or None in parts.values():
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)  # whatever layers draw, they draw from nobody's generator
        try:
            fresh = type(model)(config)
            for slot, name in parts.items():
                fresh.set_component(slot, name)
        except (TypeError, WorldFluxError):
            return None
    return fresh.to(next(model.parameters()).device)
