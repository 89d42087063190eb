"""Folders of video clips, one an episode, with a table of actions: ``clip, frame, ...`` in ``actions.csv``."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.files import read_bytes
from worldflux.words.counts import counted

from ..decoding import CONTAINERS
from ..recording import EpisodeTable, Recording, damaged
from ..video import Videos
from .common.actions import OPTIONS, ActionOptions, told_by_data
from .common.arrivals import arrival, padded
from .common.guard import check_file, faults, inside, refuse_unknown
from .common.lazy import LazyRecording
from .common.video import ClipFrames

TABLE = "actions.csv"
MAX_TABLE = 1 << 30  # bytes
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


class Clips:
    """The format ``clips``: a folder with ``actions.csv`` and the videos or GIFs that it names."""

    name = "clips"

    def detect(self, path: Path) -> bool:
        """Tell whether ``path`` is a folder with a table of actions that begins with ``clip,frame``."""
        try:
            with (path / TABLE).open("rb") as table:
                return table.read(64).decode("utf-8-sig", "replace").replace(" ", "").startswith("clip,frame,")
        except OSError:
            return False

    def open(self, path: Path, **options: Any) -> Recording:
        """Return the clips that the table names, in its order, as episodes; the observation is called ``video``.

        Options: those of actions.

        Raises DatasetError naming file, episode and row, ConfigurationError for an option that does not fit.
        """
        refuse_unknown(self.name, options, OPTIONS)
        usable = ActionOptions.of(options)
        table = check_file(path / TABLE, within=path)
        clips, has_rewards = _read_table(table)
        files = _files(path, table, clips)
        lengths = np.array([len(clip.actions) + 1 for clip in clips])
        frames = ClipFrames(files, lengths.tolist(), Videos())
        taken = np.ones(lengths.sum(), bool)
        taken[np.cumsum(lengths) - 1] = False
        raw = _whole(np.concatenate([padded(clip.actions, rows=len(clip.actions) + 1) for clip in clips]))
        acted = told_by_data(raw, taken, usable, place=table)
        columns = {"action": acted.rows}
        if has_rewards:
            columns["reward"] = np.concatenate([arrival(clip.rewards) for clip in clips])
        spare = sorted(file.name for file in path.iterdir() if file.suffix.lower() in CONTAINERS and file not in files)
        if spare:
            raise damaged(
                table, f"has no row for {counted(len(spare), 'clip')} here, such as {spare[0]}",
                way_out="write their actions, or put them elsewhere: the table may have been cut short",
            )  # fmt: skip
        return LazyRecording(
            format=self.name,
            place=path,
            obs_spec={"video": ModalitySpec(ModalityKind.IMAGE, frames.shape, "uint8", "CHW", "video")},
            action_spec=acted.spec,
            episodes=EpisodeTable.of([clip.name for clip in clips], lengths),
            columns=columns,
            remarks=(*acted.remarks, "no ends in truth: the table does not tell them from cuts"),
            action_bounds=acted.bounds,
            files=(table, *files),
            sources={"obs/video": frames},
        )


@dataclass
class _Clip:
    """What the table says of one clip: actions ``[T, A]``, rewards ``[T]`` (zeros where it has none)."""

    name: str
    actions: np.ndarray
    rewards: np.ndarray


def _read_table(table: Path) -> tuple[list[_Clip], bool]:
    """Return what the table says, clips in the order in which they first come, and whether it has rewards."""
    with faults(table, "the table"):
        lines = list(
            csv.reader(
                io.StringIO(read_bytes(table, limit=MAX_TABLE, follow=True).decode("utf-8-sig"), ""), strict=True
            )
        )
    head = [name.strip() for name in lines[0]] if lines else []
    said = str(head)[:200]
    if head[:2] != ["clip", "frame"] or len(head) < 3 or len(set(head)) < len(head) or "" in head:
        raise damaged(table, f"its columns are {said}, expected clip, frame, then those of the action, each once")
    rewards = [i for i, name in enumerate(head) if name in ("reward", "rewards")]
    actions = [i for i in range(2, len(head)) if i not in rewards]
    if len(rewards) > 1 or not actions:
        raise damaged(table, f"its columns are {said}, expected at most one of rewards and at least one of actions")
    rows: dict[str, dict[int, list[float]]] = {}
    order: dict[str, int] = {}
    for number, cells in enumerate(lines[1:], 2):
        if not cells:
            continue
        name = cells[0].strip()
        episode = order.setdefault(name, len(order))
        frame, values = _numbers(table, head, cells, number, episode)
        if frame in rows.setdefault(name, {}):
            raise damaged(
                table, f"line {number} is the second for this frame of {name[:80]!r}", episode=episode, row=frame
            )
        rows[name][frame] = values
    if not rows:
        raise damaged(table, "it has no rows", way_out="write the action done on each frame")
    columns = ([i - 2 for i in actions], [i - 2 for i in rewards])
    return [_clip(table, order[name], name, of_clip, *columns) for name, of_clip in rows.items()], bool(rewards)


def _clip(
    table: Path, episode: int, name: str, rows: dict[int, list[float]], actions: list[int], rewards: list[int]
) -> _Clip:
    """Return a clip from the numbers of its frames, of which the last may have none."""
    last = len(rows) - 1
    if last > 0 and rows.get(last) == []:
        del rows[last]
    for frame in range(len(rows)):
        if not rows.get(frame):
            what = "no row has this frame" if frame not in rows else "its cells are empty, which only the last may be"
            raise damaged(table, f"{name[:80]!r}: {what}", episode=episode, row=frame)
    values = np.array([rows[frame] for frame in range(len(rows))], np.float64)
    return _Clip(name, values[:, actions], values[:, rewards].sum(1))


def _numbers(
    table: Path, head: Sequence[str], cells: Sequence[str], line: int, episode: int
) -> tuple[int, list[float]]:
    """Return the frame and the numbers of one line, none if all its cells are empty."""
    if len(cells) != len(head):
        raise damaged(
            table,
            f"line {line} has {counted(len(cells), 'cell')} under {counted(len(head), 'column')}",
            episode=episode,
        )
    texts = [cell.strip() for cell in cells[1:]]
    if not re.fullmatch(r"\d{1,9}", texts[0], re.ASCII):
        raise damaged(
            table, f"line {line}: the frame is {texts[0][:80]!r}, expected its place from 0 on", episode=episode
        )
    row, values = int(texts[0]), []
    if not any(texts[1:]):
        return row, []
    for name, text in zip(head[2:], texts[1:], strict=True):
        value = float(text) if _NUMBER.fullmatch(text) else float("nan")
        if not np.isfinite(np.float32(value) if abs(value) < 1e38 else float("inf")):
            raise damaged(table, f"line {line}: {name} is {text[:80]!r}, expected a number", episode=episode, row=row)
        values.append(value)
    return row, values


def _files(folder: Path, table: Path, clips: Sequence[_Clip]) -> tuple[Path, ...]:
    """Return the file of each clip."""
    files = tuple(inside(folder, clip.name, said_by=table, episode=episode) for episode, clip in enumerate(clips))
    if len(set(files)) < len(files):
        raise damaged(table, "names one clip in two ways")
    return files


def _whole(actions: np.ndarray) -> np.ndarray:
    """Return a single column of whole numbers from 0 on as such: they are classes."""
    single = actions.shape[1] == 1 and (actions == np.rint(actions)).all() and 0 <= actions.min() <= actions.max() < 256
    return actions.astype(np.int64) if single else actions
