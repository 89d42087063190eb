"""Names of files as datasets state them: they stay inside the dataset's folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..recording import damaged


def inside(folder: Path, name: str, *, said_by: Path, episode: int | None = None) -> Path:
    """Return the file that a dataset calls ``name``. Raises DatasetError for one outside ``folder``.

    ``said_by`` is the file that names it. A link may lead out only to where the Hub's client keeps its files.
    """
    parts = PurePosixPath(name).parts
    whole = "\0" not in name and name.strip() and not os.path.isabs(name) and not PureWindowsPath(name).drive
    if not whole or ".." in parts or "\\" in name or not parts:
        raise damaged(
            said_by, f"names the file {name!r}, which is not in the dataset's folder", episode=episode,
            way_out="a dataset reads its own files only: move the file there and change the name",
        )  # fmt: skip
    file = folder / name
    real, home = Path(os.path.realpath(file)), Path(os.path.realpath(folder))
    if not any(real.is_relative_to(root) for root in (home, home.parent.parent / "blobs")):
        raise damaged(
            file, f"is a link to {real}, out of the dataset's folder", episode=episode,
            way_out="put the file itself there",
        )  # fmt: skip
    return file
