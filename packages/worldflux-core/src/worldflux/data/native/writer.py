"""Writing a dataset: episodes are checked, gathered, and sealed in shards that are never written to again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.files import expanded, json_text, parse_json, replacing, sha256
from worldflux.words.counts import counted

from ..alike import difference
from ..bounds import ActionBounds, known_together
from ..extra import need
from ..lock import FolderLock
from ..memory import in_bytes
from ..recording import DatasetError, damaged
from ..row import check_specs
from .blocks import BLOCK, has_zstd, packed
from .door import Door
from .page import EPISODES, IDS, PAGE, Page, check_bounds, check_modality, read_page
from .reader import NativeFormat
from .shards import drop_unlisted, write_shard

SHARD_BYTES = 128 << 20  # gathered in memory until a shard of them is sealed
RAW_BYTES = 2 << 30  # of images: up to here they stay raw, which is read fastest
WORTH = 0.8  # compressed, a block must be at most this share of its rows
_LOG = logging.getLogger(__name__)


class DatasetWriter:
    """Appends episodes to a dataset in a folder; a context manager that seals what was appended when it is left.

    Whatever happens to this process, every sealed episode is there, none twice and none half: a shard is written aside,
    and counts from the moment ``dataset.json`` lists it. Many may read meanwhile; another writer is refused.

    Args:
        path: the folder, made if absent.
        obs_spec: what a row shows, by name: images ``[C, H, W]`` uint8, vectors float32.
        action_spec: the flat action.
        info_spec: what else rows hold: tasks, named states.
        action_bounds: what -1 and 1 of an action stand for in the environment; None where that is not known.
        rewards: whether rows hold rewards.
        frame_stack: for images ``[n * C, H, W]`` that are the last n frames, their n: frames are stored once, and
            stacked again when they are read.
        provenance: where the episodes come from, JSON-able.
        remarks: what was lost on the way here.
        images: "raw", in "zstd" blocks of 64 rows, or "auto": raw up to 2 GB, blocks beyond that if they are smaller.
        mode: "new" refuses a folder with a dataset, "append" goes on with it.
        shard_bytes: how much is gathered in memory before it is sealed.

    Raises:
        ConfigurationError: an option that does not exist, a dataset where none may be or one of other rows, or another
            writer. DatasetError: the dataset that is there is damaged, or nothing can be written.
    """

    def __init__(
        self,
        path: str | Path,
        obs_spec: Mapping[str, ModalitySpec],
        action_spec: ActionSpec,
        *,
        info_spec: Mapping[str, ModalitySpec] | None = None,
        action_bounds: ActionBounds | None = None,
        rewards: bool = True,
        frame_stack: Mapping[str, int] | None = None,
        provenance: Mapping[str, Any] | None = None,
        remarks: Sequence[str] = (),
        images: Literal["auto", "raw", "zstd"] = "auto",
        mode: Literal["new", "append"] = "new",
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        for what, value, known in (("images", images, ("auto", "raw", "zstd")), ("mode", mode, ("new", "append"))):
            if value not in known:
                raise ConfigurationError(f"{what} is {value!r}, expected {' or '.join(known)}")
        if images == "zstd":
            need("zstandard", "images in zstd blocks")
        self.path, self._images, self._shard_bytes = expanded(path), images, shard_bytes
        page = _page(obs_spec, action_spec, info_spec, action_bounds, rewards, frame_stack, remarks)
        self._lock = FolderLock(self.path)
        try:
            self._lock.__enter__()
        except CheckpointError as error:
            raise DatasetError(str(error)) from error
        self._page, self._table = page, np.empty((0, 5), np.int64)
        self._names: list[str] = []
        try:
            self._begin(page, mode)
            self._source = None if provenance is None else self._add_source(provenance)
        except BaseException:
            self._lock.__exit__()
            raise
        self._fields = self._page.fields()
        self._door = Door(self.path, self._fields, action_spec, self._page.frame_stack)
        self._pending: list[tuple[dict[str, np.ndarray], str, bool, bool, int]] = []
        self._bytes, self._packing, self._closed = 0, False, False
        self._next = int(self._page.shards[-1].name) + 1 if self._page.shards else 0

    @property
    def sealed(self) -> int:
        """How many episodes are on the disk for good."""
        return len(self._names)

    @property
    def episodes(self) -> int:
        """How many episodes there are, those that are not sealed yet included."""
        return len(self._names) + len(self._pending)

    @property
    def rows(self) -> int:
        """How many rows there are, those that are not sealed yet included."""
        return self._page.rows + sum(len(next(iter(one[0].values()))) for one in self._pending)

    def source(self, id: str) -> dict[str, Any] | None:
        """Where the episode of this id comes from; None if there is none."""
        return self._page.sources[self._ids[id]] if id in self._ids else None

    @property
    def sources(self) -> tuple[dict[str, Any], ...]:
        """Where the episodes come from."""
        return self._page.sources

    def append(
        self,
        columns: Mapping[str, Any],
        *,
        id: str | None = None,
        terminal: bool = False,
        stand_in: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> str:
        """Take one whole episode and return its id.

        ``columns`` has ``obs/NAME``, ``action``, ``reward`` and ``info/NAME``, each ``[rows, ...]`` in the arrival
        convention, and the flags if they are at hand. ``terminal``: it ended in truth. ``stand_in``: its last row
        repeats the observation before it. ``provenance``: where this one comes from, if not from where the others do.

        Raises:
            DatasetError: the rows are not right; nothing of the episode is kept. ConfigurationError: its id is taken.
        """
        if self._closed:
            raise ConfigurationError(f"the writer of {self.path} is closed: make another one, with mode='append'")
        name = self._free_id() if id is None else str(id)
        if name in self._ids or not name or "\0" in name:
            raise ConfigurationError(
                f"an episode cannot be called {name!r} in {self.path}: each needs an id of its own"
            )
        rows, ended = self._door.checked(columns, name)
        if provenance is not None or self._source is None:
            source = self._add_source(provenance or {})
        else:
            source = self._source
        self._pending.append((rows, name, bool(terminal) or ended, bool(stand_in), source))
        self._ids[name] = source
        self._bytes += sum(value.nbytes for value in rows.values())
        if self._bytes >= self._shard_bytes:
            self.seal()
        return name

    def seal(self) -> None:
        """Put what was appended on the disk, for good. Raises DatasetError if the disk is full: what is there stays."""
        if not self._pending:
            return
        number, self._next = self._next, self._next + 1  # never that of a failed try, which may be listed
        try:
            rows = [one[0] for one in self._pending]
            shard = write_shard(self.path, number, rows, self._fields, self._packs(rows))
            lengths = [len(next(iter(columns.values()))) for columns in rows]
            flags = [[terminal, stand_in, source] for _, _, terminal, stand_in, source in self._pending]
            new = np.column_stack([np.zeros((len(lengths), 1)), lengths, flags]).astype(np.int64)
            table = np.concatenate([self._table, new])
            table[:, 0] = np.cumsum(table[:, 1]) - table[:, 1]
            names = [*self._names, *(one[1] for one in self._pending)]
            self._page = self._listed(replace(self._page, shards=(*self._page.shards, shard)), table, names)
        except (OSError, TypeError, ValueError) as error:
            with contextlib.suppress(OSError, DatasetError):
                drop_unlisted(self.path, _shards_listed(self.path))
            episodes = counted(len(self._pending), "episode")
            kept = f"the {self.sealed:,} sealed before are untouched" if self.sealed else "none was sealed before"
            raise damaged(self.path, f"could not seal {episodes}: {error}", way_out=kept) from error
        self._table, self._names, self._pending, self._bytes = table, names, [], 0

    def close(self) -> None:
        """Seal what was appended and let others write."""
        if self._closed:
            return
        try:
            self.seal()
        finally:
            self._closed = True
            self._lock.__exit__()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        with contextlib.suppress(*([DatasetError] if kind is not None else [])):  # what was raised says more
            self.close()

    def _begin(self, page: Page, mode: str) -> None:
        there = (self.path / PAGE).exists()
        if not there and (self.path / EPISODES).exists():  # a killed writer puts the page there first
            raise damaged(
                self.path / PAGE, f"it is missing, yet {EPISODES} is there",
                way_out="take it from a copy of the dataset, or choose another folder; nothing was changed",
            )  # fmt: skip
        if there and mode == "new":
            raise ConfigurationError(
                f"{self.path} holds a dataset: append to it, or choose another folder; nothing was changed"
            )
        if there:
            before = NativeFormat().open(self.path, verify=False)
            assert before.page is not None and before.sources is not None
            _check_same(before.page, page, self.path)
            remarks = dict.fromkeys((*before.page.remarks, *page.remarks))
            table, sources = before.episodes, before.sources
            flags = [table.offsets, table.lengths, table.terminal, table.stand_in, sources]
            bounds = known_together([(str(self.path), before.page.action_bounds), ("these", page.action_bounds)])
            self._page = replace(before.page, remarks=tuple(remarks), action_bounds=bounds)
            self._table = np.column_stack(flags).astype(np.int64)
            self._names = list(table.ids)
        self._ids = dict(zip(self._names, self._table[:, 4].tolist(), strict=True))
        dropped = drop_unlisted(self.path, [shard.name for shard in self._page.shards])
        if dropped:
            _LOG.warning(
                "%s: dropped %s of a writer that was killed", self.path, counted(len(dropped), "unfinished shard")
            )

    def _add_source(self, provenance: Mapping[str, Any]) -> int:
        try:
            source = parse_json(json_text(dict(provenance)).encode())
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"the provenance cannot be written as JSON: {error}") from error
        if source not in self._page.sources:
            self._page = replace(self._page, sources=(*self._page.sources, source))
        return self._page.sources.index(source)

    def _free_id(self) -> str:
        number = self.episodes
        while f"{number:08d}" in self._ids:
            number += 1
        return f"{number:08d}"

    def _packs(self, episodes: Sequence[Mapping[str, np.ndarray]]) -> frozenset[str]:
        """The columns of this shard that go in compressed blocks."""
        images = [name for name, spec in self._fields.items() if name.startswith("obs/") and _is_image(spec)]
        if self._images == "auto" and images and not self._packing:
            row = sum(int(np.prod(self._fields[name].shape)) for name in images)
            if row * self.rows > RAW_BYTES:
                self._packing = _worth([episodes[0][name][:BLOCK] for name in images])
                how = (
                    "in zstd blocks" if self._packing else "raw, which zstd would hardly shrink or is not installed for"
                )
                _LOG.info("%s: %s of images: from here on %s", self.path, in_bytes(row * self.rows), how)
        return frozenset(images if self._images == "zstd" or self._packing else ())

    def _listed(self, page: Page, table: np.ndarray, names: list[str]) -> Page:
        """Put the page and its tables in place, all at once, and return the page."""
        with replacing(self.path / EPISODES, self.path / IDS, self.path / PAGE) as stages:
            for stage, array in zip(stages, (table, np.array(names, np.str_))):
                with stage.open("wb") as file:
                    np.save(file, array, allow_pickle=False)
            page = replace(page, tables=dict(zip((EPISODES, IDS), map(sha256, stages))))
            stages[-1].write_text(page.text(), encoding="utf-8")
        return page


def _page(
    obs_spec: Any,
    action_spec: Any,
    info_spec: Any,
    action_bounds: ActionBounds | None,
    rewards: bool,
    frame_stack: Any,
    remarks: Sequence[str],
) -> Page:
    """The page of a new dataset. Raises ConfigurationError for specs that no rows can have."""
    check_specs(obs_spec, action_spec)
    info, stacks = dict(info_spec or {}), {name: n for name, n in (frame_stack or {}).items() if n != 1}
    if not obs_spec:
        raise ConfigurationError("obs_spec is empty: a row shows at least one observation")
    try:
        for name, spec in {**obs_spec, **info}.items():
            check_modality(name, spec)
        bounds = None if action_bounds is None else check_bounds(action_bounds, action_spec)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    for name, stack in stacks.items():
        spec = obs_spec.get(name)
        fits = spec is not None and spec.kind is ModalityKind.IMAGE and len(spec.shape) == 3
        if not fits or type(stack) is not int or stack < 1 or spec.shape[0] % stack:
            raise ConfigurationError(
                f"frame_stack has {stack!r} for {name!r}, expected for an image [n * C, H, W] of obs_spec its n"
            )
    said = tuple(map(str, remarks))
    return Page(dict(obs_spec), action_spec, info, bool(rewards), stacks, remarks=said, action_bounds=bounds)


def _shards_listed(path: Path) -> list[str]:
    """The shards that count, as the page on the disk has it. Raises DatasetError."""
    return [shard.name for shard in read_page(path).shards] if (path / PAGE).exists() else []


def _is_image(spec: ModalitySpec) -> bool:
    return spec.dtype == "uint8" and len(spec.shape) == 3


def _check_same(there: Page, given: Page, path: Path) -> None:
    differs = difference(given, there, ("obs_spec", "action_spec", "info_spec", "rewards", "frame_stack"))
    if differs is not None:
        what, mine, other = differs
        raise ConfigurationError(
            f"{path} holds episodes whose {what} is {other}, of these it is {mine}: write them to another folder"
        )


def _worth(samples: Sequence[np.ndarray]) -> bool:
    """Whether zstd is there and shrinks images like these."""
    if not has_zstd():
        return False
    raw = [np.ascontiguousarray(sample).tobytes() for sample in samples]
    return sum(len(packed(one)) for one in raw) < WORTH * sum(map(len, raw))
