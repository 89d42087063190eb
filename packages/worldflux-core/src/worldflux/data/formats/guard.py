"""What every reader stands behind: packages that may be absent, files that may be damaged or lie elsewhere."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError, WorldFluxError
from worldflux.files import opened

from ..npy import memory
from ..recording import DatasetError, damaged

_PACKAGES = {"PIL": "pillow"}


def need(module: str, what: str) -> Any:
    """Import a module of the extra ``data``. Raises ConfigurationError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = _PACKAGES.get(module.split(".")[0], module.split(".")[0])
        raise ConfigurationError(
            f"{what} needs {package}, which is not installed: pip install 'worldflux-core[data]'"
        ) from error


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
            way_out="the file is damaged or incomplete: take it from where it came from",
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
            f"{path} holds {len(found)} files ending in {' or '.join(endings)}, {what} is one: name the file itself"
        )
    return check_file(found[0], within=path)
