"""One ``.npz`` file an episode: its columns in line, its images where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.envs.spaces import image_layout

from ...recording import EpisodeTable
from .lines import Lines, observation_names
from .naming import info_name
from .npz_files import NpzFiles, joined


@dataclass(frozen=True)
class Table:
    """Which stored columns are what: observations, the action, the reward, and whatever else is kept."""

    observations: Sequence[str]
    action: str | None = None
    reward: str | None = None
    info: Sequence[str] = ()


def episode_lines(
    format: str,
    folder: Path,
    files: NpzFiles,
    parts: Sequence[Mapping[str, np.ndarray]],
    episodes: EpisodeTable,
    table: Table,
    remarks: Sequence[str] = (),
    taken: np.ndarray | None = None,
) -> Lines:
    """Return the rows of files that are an episode each; ``parts`` holds their small columns, arrival convention.

    Images are read as they stand; where an episode has a row more than its file, the last image is repeated.
    """
    images = {stored: files.columns[0][stored] for stored in files.pictures(table.observations)}
    called = observation_names(table.observations)
    stored = {f"obs/{called[name]}": name for name in images}
    offsets, ends = episodes.offsets, np.cumsum(episodes.lengths)
    block = np.repeat(np.arange(len(episodes), dtype=np.int32), episodes.lengths)
    row = np.arange(episodes.rows) - offsets[block]
    row[ends[episodes.stand_in] - 1] -= 1

    def place(at: int) -> Mapping[str, Any]:
        episode = int(np.searchsorted(ends, at, side="right"))
        return {"file": files.files[episode], "episode": episode, "row": at - int(offsets[episode])}

    return Lines(
        format,
        folder,
        files.files,
        episodes,
        place,
        vectors={called[name]: joined(parts, name) for name in table.observations if name not in images},
        action=None if table.action is None else joined(parts, table.action),
        reward=None if table.reward is None else joined(parts, table.reward),
        images={called[name]: image_layout(one.shape[1:])[0] for name, one in images.items()},
        info={info_name(name): joined(parts, name) for name in table.info},
        load=lambda name, index: files.images(stored[name], index),
        block=block,
        row=row,
        remarks=list(remarks),
        taken=taken,
        provenance={"files": len(files.files)},
    )
