"""Arrays on disk without pickle: one ``.npy`` a name, and a JSON page that lists them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError

ARRAYS_FILE = "arrays.json"


def save_arrays(directory: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
    """Write named arrays and JSON-able ``meta`` into ``directory`` (made if absent) and return it.

    Raises:
        OSError: the disk is full or not writable.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    files = {name: f"{i:02d}-{re.sub('[^A-Za-z0-9_-]', '_', name)}.npy" for i, name in enumerate(arrays)}
    for name, file in files.items():
        np.save(target / file, arrays[name], allow_pickle=False)
    # Written last: a directory without this page is an unfinished one.
    (target / ARRAYS_FILE).write_text(json.dumps({"files": files, "meta": dict(meta)}))
    return target


def load_arrays(directory: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote; the arrays are read-only views of the files.

    Raises:
        CheckpointError: something is missing, truncated, or would need pickle.
    """
    source = Path(directory)
    try:
        page = json.loads((source / ARRAYS_FILE).read_text())
        files, meta = dict(page["files"]), dict(page["meta"])
    except (OSError, ValueError, KeyError, TypeError) as error:
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
