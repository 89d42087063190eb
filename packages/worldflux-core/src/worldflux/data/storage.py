"""Arrays on disk without pickle: one ``.npy`` a name, and a JSON page that lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.core.files import expanded, read_json, replacing

ARRAYS_FILE = "arrays.json"


def save_arrays(directory: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
    """Write named arrays and JSON-able ``meta`` into ``directory`` (made if absent) and return it.

    Raises:
        OSError: the disk is full or not writable.
    """
    target = expanded(directory)
    files = {name: f"{i:02d}-{re.sub('[^A-Za-z0-9_-]', '_', name)}.npy" for i, name in enumerate(arrays)}
    page = json.dumps({"files": files, "meta": dict(meta)})
    # The page takes its place last: a directory without it is an unfinished one.
    with replacing(*(target / file for file in files.values()), target / ARRAYS_FILE) as stages:
        for stage, array in zip(stages, arrays.values()):
            with stage.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        stages[-1].write_text(page)
    return target


def load_arrays(directory: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote; the arrays are read-only views of the files.

    Raises:
        CheckpointError: something is missing, truncated, or would need pickle.
    """
    source = expanded(directory)
    try:
        page = read_json(source / ARRAYS_FILE)
        files, meta = dict(page["files"]), dict(page["meta"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source} holds no readable {ARRAYS_FILE}: {error}") from error
    arrays = {}
    for name, file in files.items():
        try:
            if Path(file).name != file:
                raise ValueError("not a plain file name")
            arrays[name] = np.load(source / file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(f"array {name!r} in {source / str(file)} is damaged: {error}") from error
    return arrays, meta


def whole(meta: Mapping[str, Any], name: str, *, what: str) -> int:
    """Return the whole number of at least 0 saved as ``name``. Raises CheckpointError if there is none."""
    value = meta.get(name)
    if type(value) is not int or value < 0:
        raise CheckpointError(f"saved {what}: {name!r} is {value!r}, expected a whole number of at least 0")
    return value


def generator_state(state: Any, what: str) -> dict[str, Any]:
    """Return the state of a numpy generator. Raises CheckpointError if it is none."""
    generator = np.random.default_rng().bit_generator
    try:
        generator.state = state
        if generator.state != state:  # numpy 1 takes a negative number for a large one
            raise ValueError(f"it comes back as {generator.state}")
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError) as error:
        raise CheckpointError(f"saved {what}: 'rng' is no state of a generator: {error!r}") from error
    return dict(state)


def check_array(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], dtype: np.dtype, *, what: str
) -> np.ndarray:
    """Return a saved array. Raises CheckpointError if it is missing, or of another shape or dtype."""
    array = arrays.get(name)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        got = f"{array.dtype}{array.shape}" if isinstance(array, np.ndarray) else "nothing" if array is None else array
        raise CheckpointError(f"saved {what}: {name!r} should be {dtype}{shape}, got {got}")
    return array
