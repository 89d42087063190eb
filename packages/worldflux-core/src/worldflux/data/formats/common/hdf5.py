"""HDF5 files that nobody has vouched for: opened when needed, in whichever process asks, and never led elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.words.counts import counted

from ...extra import need
from ...memory import in_bytes
from ...recording import damaged
from .guard import check_room, faults
from .hdf5_heaps import check_heaps

WINDOW = 16  # rows: what a layout must serve well
_TINY = 1 << 10  # bytes: a chunk below this costs more to find than to read
SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Hdf5File:
    """One file, open while it is read. A fork opens it anew, since two processes must not share a handle."""

    def __init__(self, path: Path) -> None:
        with faults(path, "the HDF5 file"):
            check_heaps(path)
        self.path = path
        self._handle: Any = None
        self._pid = 0
        self._cache: dict[str, Any] = {}
        self._tiny: dict[str, int] = {}  # columns that lie in tiny chunks: how many were looked up to load them

    @property
    def root(self) -> Any:
        """The open file. Raises DatasetError where it is damaged, ConfigurationError without h5py."""
        if self._pid != os.getpid():
            self.close()
        if self._handle is None:
            with faults(self.path, "the HDF5 file"):
                self._handle = _opened(self.path)
            self._pid = os.getpid()
        return self._handle

    def at(self, where: str, *, inside: Any = None, episode: int | str | None = None) -> Any:
        """Return the group or dataset at a path, from ``inside`` or the root.

        Raises DatasetError for what is not there or is a link, which could lead anywhere.
        """
        h5py = need("h5py", "reading HDF5")
        here = self.root if inside is None else inside
        with faults(self.path, where, episode=episode):
            for name in where.split("/"):
                link = here.get(name, getlink=True) if isinstance(here, h5py.Group) else None
                if link is None:
                    raise damaged(self.path, f"it holds no {where}", episode=episode)
                if not isinstance(link, h5py.HardLink):
                    raise damaged(
                        self.path, f"{where} is a link to elsewhere, which is not followed", episode=episode,
                        way_out="copy what it points to into the file itself",
                    )  # fmt: skip
                here = here[name]
        return here

    def names(self, group: Any, *, episode: int | str | None = None) -> list[str]:
        """Return the names in a group. Raises DatasetError where its list is damaged."""
        with faults(self.path, "a list of names", episode=episode):
            return [str(name) for name in group]

    def is_group(self, found: Any) -> bool:
        """Tell whether something found is a group."""
        return isinstance(found, need("h5py", "reading HDF5").Group)

    def dataset(self, where: str, *, inside: Any = None, episode: int | str | None = None) -> Any:
        """Return a dataset whose numbers are all in this file and can be unpacked here. Raises DatasetError."""
        found = self.at(where, inside=inside, episode=episode)
        with faults(self.path, where, episode=episode):
            if self.is_group(found) or not hasattr(found, "shape"):
                raise damaged(self.path, f"{where} is no array", episode=episode)
            _check_home(self.path, where, found, episode)
        return found

    def load(self, where: str, *, inside: Any = None, episode: int | str | None = None) -> np.ndarray:
        """Return a whole dataset of plain numbers. Raises DatasetError for anything else, or what cannot be."""
        found = self.dataset(where, inside=inside, episode=episode)
        with faults(self.path, where, episode=episode):
            if found.dtype.kind not in "biuf" or found.shape is None:
                raise damaged(
                    self.path, f"{where} holds {found.dtype}, expected plain numbers", episode=episode,
                    way_out="objects are not loaded: store it as numbers",
                )  # fmt: skip
            check_room(self.path, where, math.prod(found.shape) * found.dtype.itemsize)
            if chunks := _tiny_chunks(found):
                self._tiny[where] = self._tiny.get(where, 0) + chunks
            values = np.asarray(found[()])
        if values.dtype == bool and values.size and values.view(np.uint8).max() > 1:
            raise damaged(self.path, f"{where} holds bytes that are neither True nor False", episode=episode)
        return values

    @property
    def slow(self) -> list[str]:
        """One remark over the columns whose tiny chunks made loading them slow."""
        total = sum(self._tiny.values())
        if total <= WINDOW:
            return []
        return [
            f"slow to open: {', '.join(self._tiny)} lie in {counted(total, 'chunk')} of less than {in_bytes(_TINY)}, "
            "found one "
            "by one; `worldflux data convert` writes them for reading"
        ]

    def cached(self, where: str) -> Any:
        """Return a dataset that was checked before, kept open with the file."""
        root = self.root  # first: in a new process it empties what is kept
        if where not in self._cache:
            self._cache[where] = root[where]
        return self._cache[where]

    def close(self) -> None:
        """Close the file; it opens again when it is asked for."""
        self._cache.clear()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None, "_pid": 0, "_cache": {}, "_tiny": {}}


def _opened(path: Path) -> Any:
    """Open as everybody does, else in any way of locking: HDF5 refuses another than whoever has the file open chose."""
    h5py = need("h5py", "reading HDF5")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "lock" not in str(error):
            raise
    with contextlib.suppress(OSError):
        return h5py.File(path, "r", locking=True)
    return h5py.File(path, "r", locking=False)


def _check_home(file: Path, where: str, dataset: Any, episode: int | str | None) -> None:
    h5py = need("h5py", "reading HDF5")
    if dataset.is_virtual or dataset.external:
        raise damaged(
            file, f"{where} keeps its numbers in other files, which are not opened", episode=episode,
            way_out="write them into the file itself, as with h5repack",
        )  # fmt: skip
    made = dataset.id.get_create_plist()
    for i in range(made.get_nfilters()):
        code, _, _, name = made.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            called = name.decode("utf-8", "replace") if name else "without a name"
            raise damaged(
                file, f"{where} is packed with the filter {code} ({called}), which is not here", episode=episode,
                way_out="import what brings it (such as hdf5plugin) first, or unpack the file with h5repack",
            )  # fmt: skip
    size = math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    if dataset.chunks is None:
        stored = dataset.id.get_storage_size()
        if size and stored != size and dataset.dtype.kind != "O":
            raise damaged(file, f"{where} has {stored:,} of {size:,} bytes", episode=episode)
        return
    check_room(file, f"a chunk of {where}", math.prod(dataset.chunks) * dataset.dtype.itemsize)
    whole = math.prod(-(-rows // chunk) for rows, chunk in zip(dataset.shape, dataset.chunks))
    there = dataset.id.get_num_chunks() if size else whole
    if there != whole:
        raise damaged(
            file, f"{where} has {there:,} of {counted(whole, 'chunk')}: the rest was never written", episode=episode,
            way_out="its writer was stopped: write it again",
        )  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """``count`` rows of a dataset, from ``first`` on."""

    where: str
    first: int
    count: int


@dataclass
class Hdf5Rows:
    """A column that stays in its file: for each episode the pieces that its rows are in.

    ``convert`` makes the column's rows ``[n, ...]`` of what the file holds, ``[n, ...]``.
    """

    file: Hdf5File
    name: str
    pieces: Sequence[tuple[Piece, ...]]
    convert: Callable[[np.ndarray], np.ndarray]

    def rows(self, episode: int, rows: np.ndarray) -> np.ndarray:
        """Return rows of an episode, ``[n, ...]``. Raises DatasetError naming file, episode and row."""
        found, start = [], 0
        for piece in self.pieces[episode]:
            wanted = rows[(rows >= start) & (rows < start + piece.count)] - start
            if len(wanted):
                found.append(self._read(piece, episode, start, wanted))
            start += piece.count
        return np.concatenate(found) if len(found) != 1 else found[0]

    def _read(self, piece: Piece, episode: int, start: int, wanted: np.ndarray) -> np.ndarray:
        low, high = int(wanted[0]), int(wanted[-1]) + 1
        with faults(self.file.path, self.name, episode=episode, row=start + low):
            values = self.file.cached(piece.where)[piece.first + low : piece.first + high][wanted - low]
        try:
            return self.convert(values)
        except Exception:
            for i, row in enumerate(wanted.tolist()):  # which one it is
                with faults(self.file.path, self.name, episode=episode, row=start + row):
                    self.convert(values[i : i + 1])
            raise

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _tiny_chunks(dataset: Any) -> int:
    """How many chunks a dataset lies in, if they are tiny and of a row or so each; 0 otherwise."""
    if dataset.chunks is None or math.prod(dataset.chunks) * dataset.dtype.itemsize >= _TINY:
        return 0
    chunks = dataset.id.get_num_chunks()
    return int(chunks) if chunks > max(1, dataset.shape[0] // 2) else 0


def layout_remark(name: str, dataset: Any) -> str | None:
    """Say with numbers what a dataset's chunks cost a window of rows, where that is much more than it needs."""
    if dataset.chunks is None or not dataset.shape or not all(dataset.shape):
        return None
    item = dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks) * item
    per_row = math.prod(-(-size // part) for size, part in zip(dataset.shape[1:], dataset.chunks[1:]))
    window = min(WINDOW, dataset.shape[0])
    needs = window * math.prod(dataset.shape[1:]) * item
    reads = -(-window // dataset.chunks[0]) * per_row
    better = "`worldflux data convert` writes it for reading windows"
    if reads * chunk > 4 * needs and dataset.dtype.kind != "O":
        return (
            f"{name} is slow to read: a window of {counted(window, 'row')} needs {in_bytes(needs)} and touches "
            f"{in_bytes(reads * chunk)}, since a chunk holds {counted(dataset.chunks[0], 'row')}; {better}"
        )
    if _tiny_chunks(dataset) > WINDOW:
        return (
            f"{name} is slow to read: it lies in chunks of {chunk:,} bytes, and a window of {counted(window, 'row')} "
            "looks up "
            f"{reads} of them; {better}"
        )
    return None


def shows(path: Path, test: Callable[[Any], bool]) -> bool:
    """Tell whether ``path`` (or the one HDF5 file in that folder) is HDF5 that passes a test; never raises."""
    file = hdf5_in(path)
    if file is None:
        return False
    try:
        with _opened(file) as root:
            return bool(test(root))
    except Exception:
        return False


def hdf5_in(path: Path) -> Path | None:
    """Return the file ``path``, or the only file of the folder ``path``, that begins as HDF5 does; None otherwise."""
    try:
        files = [path] if path.is_file() else [one for one in path.iterdir() if one.suffix in (".hdf5", ".h5")]
        if len(files) != 1 or not files[0].is_file():
            return None
        with files[0].open("rb") as handle:
            return files[0] if handle.read(len(SIGNATURE)) == SIGNATURE else None
    except OSError:
        return None


def check_rows(file: Path, what: str, got: int, expected: int, *, episode: int | str | None = None) -> None:
    """Raise DatasetError for a column with another number of rows than the rest."""
    if got != expected:
        raise damaged(
            file, f"{what} has {counted(got, 'row')}, expected {expected}", episode=episode,
            way_out="every column of an episode needs its rows: write the episode again or leave it out",
        )  # fmt: skip
