"""Drawing the stretches of recorded episodes that a model is judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.spec import ModalityKind
from worldflux.data.matching import check_actions, observing
from worldflux.words.counts import counted

from .segments import Segments

if TYPE_CHECKING:
    from worldflux.core.batch import Batch
    from worldflux.data import Dataset

DATA = "wf.data."  # the extras of a batch that hold the other columns of a dataset


def observed(model: Any, data: Dataset, *, frame_skip: int = 1) -> Dataset:
    """Return the same episodes with just what a model observes; all of it where the model does not say.

    ``frame_skip`` rows apart are those that the model learned from: an action of its is so many of the data's.

    Raises ConfigurationError naming both sides where an observation is missing or of another shape, or where the
    actions are of another kind or size.
    """
    if not isinstance(model, WorldModel):
        return data
    contract = model.io_contract()
    name, accepted = str(data.recording.place), contract.effective_action_specs
    check_actions(data.action_spec, accepted, frame_skip=frame_skip, name=name)
    return observing(data, contract.effective_input_spec.modalities, name=name)


def draw_segments(
    dataset: Dataset,
    *,
    sequences: int,
    rows: int,
    seed: int = 0,
    frame_skip: int = 1,
    also: Dataset | None = None,
    stand_ins: bool = True,
) -> tuple[Segments, np.ndarray]:
    """Return up to ``sequences`` stretches of ``rows`` rows ``frame_skip`` apart, and the row ``[B]`` each begins at.

    Every episode with enough rows gives one before any gives its second; where in the episode is drawn uniformly.
    ``also`` is the same data with more observations, of which the vectors go with the other columns. ``stand_ins`` says
    whether a stretch may end with a row whose observation is only a stand-in.

    Raises ConfigurationError where no episode is long enough.
    """
    table = dataset.episodes
    lengths = table.lengths if stand_ins else table.lengths - table.stand_in
    span = (rows - 1) * frame_skip + 1
    enough = np.flatnonzero(lengths >= span)
    if not len(enough):
        longest = int(lengths.max(initial=0))
        raise ConfigurationError(
            f"none of {counted(len(lengths), 'episode')} has {counted(span, 'row')} (context + horizon), the longest "
            f"has {longest}: ask for "
            "a shorter horizon or context"
        )
    rng = np.random.default_rng(seed)
    order = enough[rng.permutation(len(enough))]
    rounds = -(-sequences // len(order))
    places = [_places(rng, int(lengths[episode]) - span + 1, rounds) for episode in order]
    drawn = [(i, own[turn]) for turn in range(rounds) for i, own in enumerate(places) if turn < len(own)][:sequences]
    episodes = np.array([order[i] for i, _ in drawn])
    starts = np.array([start for _, start in drawn])
    at = starts[:, None] + np.arange(0, span, frame_skip)
    more = {} if also is None else _vectors(also, dataset, episodes, at)
    batch = dataset.batch(episodes, starts, rows, frame_skip=frame_skip)
    return _segments(dataset, batch, episodes, at, more), starts


def _places(rng: np.random.Generator, count: int, wanted: int) -> np.ndarray:
    """Up to ``wanted`` different numbers below ``count``."""
    if count > 4 * wanted:  # drawing from a long episode must not list its rows
        places = np.unique(rng.integers(count, size=2 * wanted))
        return places[rng.permutation(len(places))[:wanted]]
    return rng.permutation(count)[:wanted]


def _vectors(data: Dataset, dataset: Dataset, episodes: np.ndarray, at: np.ndarray) -> dict[str, np.ndarray]:
    """The vectors that ``data`` shows and ``dataset`` does not, of the rows ``at [B, T]``."""
    found: dict[str, np.ndarray] = {}
    for name, spec in data.obs_spec.items():
        if name not in dataset.obs_spec and spec.kind is ModalityKind.VECTOR:
            columns = {episode: data.column(f"obs/{name}", int(episode)) for episode in np.unique(episodes)}
            found[name] = np.stack([columns[episode][rows] for episode, rows in zip(episodes, at)])
    return found


def _segments(
    dataset: Dataset, batch: Batch, episodes: np.ndarray, at: np.ndarray, more: dict[str, np.ndarray]
) -> Segments:
    if batch.actions is None:
        raise ConfigurationError("the data holds no actions: imagining needs what was done in each row")
    assert batch.is_terminal is not None
    table = dataset.episodes
    stand_in = table.stand_in[episodes][:, None] & (at == table.lengths[episodes][:, None] - 1)
    others = {name: batch.extras[f"{DATA}{name}"].numpy() for name in dataset.info_spec}
    return Segments(
        obs={name: value.numpy() for name, value in batch.obs.items()},
        actions=batch.actions.numpy(),
        rewards=np.zeros(at.shape, np.float32) if batch.rewards is None else batch.rewards.numpy(),
        is_terminal=batch.is_terminal.numpy(),
        episodes=episodes,
        shown=~stand_in,
        info={**more, **others},
        has_rewards=batch.rewards is not None,
    )
