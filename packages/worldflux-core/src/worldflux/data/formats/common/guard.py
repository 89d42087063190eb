"""What every reader stands behind: packages that may be absent, files that may be damaged or lie elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from worldflux.core.errors import ConfigurationError, WorldFluxError, did_you_mean
from worldflux.files import opened
from worldflux.words.counts import counted

from ...npy import memory
from ...recording import DatasetError, damaged

DAMAGED = "the file is damaged or incomplete: take it from where it came from"
NEWER_HDF5 = "a newer HDF5 wrote it, or it is damaged: update h5py, or take it from where it came from"


@contextlib.contextmanager
def faults(file: Path, what: str, *, episode: int | str | None = None, row: int | None = None) -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into the DatasetError that names file, episode and row."""
    try:
        yield
    except WorldFluxError:
        raise
    except Exception as error:  # libraries raise anything over bytes that are none of theirs
        raise damaged(
            file, f"{what} cannot be read: {error or type(error).__name__}", episode=episode, row=row,
            way_out=NEWER_HDF5 if "bad version number" in str(error) else DAMAGED,
        ) from error  # fmt: skip


def check_file(file: Path, *, named: bool = False, within: Path | None = None, episode: int | None = None) -> Path:
    """Return a plain file that lies in the folder ``within`` (default: the one its name says).

    ``named``: the user gave this very file, a link will do. Raises DatasetError for a link out of the folder, also on
    the way to the file, for a pipe, or for nothing at all.
    """
    if not file.exists():
        raise damaged(file, "it is not there", episode=episode, way_out="take the data from where it came from, whole")
    real, home = Path(os.path.realpath(file)), Path(os.path.realpath(within or file.parent))
    if not named and not any(real.is_relative_to(root) for root in (home, *_hub(home))):
        raise damaged(
            file, f"it is a link to {real}, out of its folder", episode=episode, way_out="put the file itself there"
        )
    with faults(file, "it", episode=episode):
        opened(file, follow=True).close()
    return file


def _hub(home: Path) -> list[Path]:
    """Where the Hub's client keeps what the folder ``snapshots/REVISION/...`` links to."""
    return [one.parent.parent / "blobs" for one in (home, *home.parents) if one.parent.name == "snapshots"][:1]


def check_room(file: Path, what: str, size: int, *, episode: int | None = None) -> None:
    """Raise DatasetError for what would take more than a quarter of the machine's memory to read at once."""
    if size > memory() // 4:
        raise damaged(
            file, f"{what} says it takes {size:,} bytes, more than a quarter of this machine's memory", episode=episode,
            way_out="the file is damaged, or for a bigger machine",
        )  # fmt: skip


def the_file(path: Path, endings: tuple[str, ...], what: str) -> Path:
    """Return ``path``, or the one file with such an ending in the folder ``path``. Raises DatasetError."""
    if not path.is_dir():
        return check_file(path, named=True)
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in endings)
    if len(found) != 1:
        raise DatasetError(
            f"{path} holds {counted(len(found), 'file')} ending in {' or '.join(endings)}, {what} is one: name the "
            "file itself"
        )
    return check_file(found[0], within=path)


def refuse_unknown(format: str, options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise ConfigurationError for an option that a format's ``open`` does not know, with the nearest that it does."""
    known = list(known)
    for name in options:
        if name not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise ConfigurationError(
                f"the format {format!r} has no option {name!r}, it {has}.{did_you_mean(name, known)}"
            )


def inside(folder: Path, name: str, *, said_by: Path, episode: int | None = None) -> Path:
    """Return the plain file that a dataset calls ``name``, looked for in ``folder``; ``said_by`` is who names it.

    Raises DatasetError for a name or a link that leads out of the folder, and for nothing at all.
    """
    parts = PurePosixPath(name).parts
    whole = "\0" not in name and name.strip() and not os.path.isabs(name) and not PureWindowsPath(name).drive
    if not whole or ".." in parts or "\\" in name or not parts:
        raise damaged(
            said_by, f"names the file {name[:80]!r}, which is not in the dataset's folder", episode=episode,
            way_out="a dataset reads its own files only: move the file there and change the name",
        )  # fmt: skip
    return check_file(folder / name, within=folder, episode=episode)
