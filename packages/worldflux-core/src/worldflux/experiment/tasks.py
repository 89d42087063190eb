"""Several tasks in one set of data: how many there are, which actions each has, how long its episodes last."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

import numpy as np

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.fields import option_names
from worldflux.data import Dataset
from worldflux.words.counts import counted

logger = logging.getLogger(__name__)
TASK = "task"
TASK_OPTIONS = ("num_tasks", "episode_lengths", "action_dims")


def task_options(
    sets: Collection[Dataset], config: type[WorldModelConfig], given: Collection[str], *, frame_skip: int = 1
) -> dict[str, Any]:
    """Return the options of a family that learns several tasks as recorded data with ``info/task`` tells them.

    Those are ``num_tasks``; ``action_dims``, an action's entries that the task ever uses; and ``episode_lengths``, the
    most decisions of an episode, one every ``frame_skip`` rows. Empty for a family without ``num_tasks``, one task, or
    where ``num_tasks`` is given.

    Raises ConfigurationError for tasks that are no numbers from 0.
    """
    options = option_names(config)
    if "num_tasks" not in options or "num_tasks" in given or not all(TASK in one.info_spec for one in sets):
        return {}
    dims: dict[int, int] = {}
    lengths: dict[int, int] = {}
    for one in sets:
        for index in range(len(one.episodes)):
            task = _task_of(one, index)
            used = np.flatnonzero(one.column("action", index).any(axis=0))
            dims[task] = max(dims.get(task, 1), 1 + int(used.max(initial=0)))
            lengths[task] = max(lengths.get(task, 1), decisions(int(one.episodes.lengths[index]), frame_skip))
    count = 1 + max(dims)
    if count == 1:
        return {}
    found = {"num_tasks": count, "episode_lengths": [lengths.get(task, 1) for task in range(count)]}
    if frame_skip == 1:  # of several actions in one, those that a task does not use are not the last ones
        found["action_dims"] = [dims.get(task, 1) for task in range(count)]
    found = {name: value for name, value in found.items() if name in options and name not in given}
    logger.warning(
        "the data tells %s: %s", counted(count, "task"), ", ".join(f"{name} {value}" for name, value in found.items())
    )
    return found


def decisions(rows: int, frame_skip: int) -> int:
    """The decisions of an episode of so many rows, at least one."""
    return max(1, -(-(rows - 1) // frame_skip))


def _task_of(dataset: Dataset, index: int) -> int:
    told = dataset.column(f"info/{TASK}", index)
    if told.ndim != 1 or told.dtype.kind not in "iu" or int(told[0]) < 0 or (told != told[0]).any():
        raise ConfigurationError(
            f"episode {dataset.episodes.ids[index]!r} of {dataset.recording.place} tells its task as {told.dtype} "
            f"{list(told.shape)}, from {told.reshape(-1)[:1]}: expected one whole number from 0 in all of its rows"
        )
    return int(told[0])
