"""Plain numbers of an npz file, checked by the archive's own sums."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from worldflux.core.errors import CheckpointError

from ..npy import read_npz
from ..recording import damaged
from .guard import faults


def npz_names(file: Path) -> list[str]:
    """Return the names of an npz file's arrays. Raises DatasetError, also where its two lists of them disagree."""
    with faults(file, "the npz file"), zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            archive.open(member).close()  # compares the name in the list with the one before the data
            if not member.filename.endswith(".npy"):
                raise damaged(file, f"it holds {member.filename!r}, which is no array")
        return [name.removesuffix(".npy") for name in archive.namelist()]


def load_npz(file: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return arrays of an npz file by name. Raises DatasetError for objects, damage, or one that is not there."""
    try:
        return read_npz(file, names)
    except CheckpointError as error:
        said = error.__cause__ or error
        what = f"it holds no array {said}" if isinstance(said, KeyError) else f"it cannot be read: {said}"
        raise damaged(
            file, what, way_out="expected plain numbers, as numpy.savez writes them; objects are never loaded"
        ) from error
