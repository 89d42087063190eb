"""Arrays on disk without pickle: one ``.npy`` a name, and a JSON page that lists them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import CheckpointError
from worldflux.file_sets import saved, steady
from worldflux.files import MAX_STATE, expanded, json_text, parse_json, read_json, replacing, sha256

from .npy import check_writable, map_npy

ARRAYS_FILE, VERSION = "arrays.json", 2
_OURS = re.compile(r"[0-9]{2,}-[A-Za-z0-9_-]*\.npy")


def save_arrays(
    directory: str | Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, hashes: bool = True
) -> Path:
    """Write named arrays and JSON-able ``meta`` into ``directory`` (made if absent) and return it.

    What was saved there before is replaced in one step. ``hashes=False`` is for who keeps the files' hashes elsewhere.

    Raises:
        OSError: the disk is full or not writable.
        TypeError, ValueError: an array or ``meta`` could not be read back. Nothing is written then.
    """
    target = expanded(directory)
    for name, array in arrays.items():
        check_writable(name, array)
    files = {name: f"{i:02d}-{re.sub('[^A-Za-z0-9_-]', '_', name)}.npy" for i, name in enumerate(arrays)}
    # As JSON gives it back, whose keys are text; what JSON cannot hold is found before anything is written.
    page = parse_json(json_text({"files": files, "meta": dict(meta)}, limit=MAX_STATE, indent=None).encode())
    before = _names(target)
    with replacing(*(target / file for file in files.values()), target / ARRAYS_FILE) as stages:
        for stage, array in zip(stages, arrays.values()):
            with stage.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        if hashes:
            page |= {"version": VERSION, "sha256": dict(zip(files.values(), map(sha256, stages)))}
            page["page_sha256"] = _digest(page)
        stages[-1].write_text(json_text(page, limit=MAX_STATE, indent=None))
    for name in before - _names(target) - set(files.values()):  # of arrays that are not there any more
        with contextlib.suppress(OSError):
            (target / name).unlink()
    return target


def load_arrays(directory: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote; the arrays are read-only views of the files.

    Raises:
        CheckpointError: something is missing, truncated, altered, or no plain numbers.
    """
    source = expanded(directory)

    def read() -> tuple[tuple[dict[str, np.ndarray], dict[str, Any]], dict[str, Path]]:
        page = _page(source)
        files = page["files"]
        places = {file: source / file for file in files.values()}
        if "version" in page:
            places = saved(source / ARRAYS_FILE, {file: page["sha256"].get(file) for file in places})
        return ({name: map_npy(places[file], name) for name, file in files.items()}, page["meta"]), places

    return steady(source / ARRAYS_FILE, read)


def _page(source: Path) -> dict[str, Any]:
    """The page of a folder. One without hashes has exactly two entries, so that no damage makes another one look so."""
    try:
        page = read_json(source / ARRAYS_FILE, limit=MAX_STATE)
        if set(page) != {"files", "meta"}:
            digest = page.pop("page_sha256", None)
            if page.get("version") != VERSION or digest != _digest(page):
                raise ValueError(f"it was altered, or is not of version {VERSION}")
        for kind in ("files", "meta", "sha256"):
            if not isinstance(page.get(kind, {}), dict):
                raise ValueError(f"{kind} is no mapping")
        for name, file in page["files"].items():
            if not isinstance(file, str) or Path(file).name != file:
                raise ValueError(f"array {name!r} is in {file!r}, which is no plain file name")
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{source} holds no readable {ARRAYS_FILE}: {error}") from error
    return page


def _digest(page: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(page, sort_keys=True).encode()).hexdigest()


def _names(source: Path) -> set[str]:
    """The files of an earlier save, as far as its page is readable; what else a stranger's page names is not ours."""
    with contextlib.suppress(CheckpointError):
        return {file for file in _page(source)["files"].values() if _OURS.fullmatch(file)}
    return set()


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
