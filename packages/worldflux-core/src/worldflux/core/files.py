"""Files that are whole or absent, and JSON read within bounds: whatever worldflux keeps is written and read here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import CheckpointError, WorldFluxError

MAX_BYTES, MAX_DEPTH = 1 << 28, 100  # beyond these a JSON file is not one of ours


@contextlib.contextmanager
def replacing(*files: Path) -> Iterator[list[Path]]:
    """Give a stage beside each file to write to; when the block ends well, all take the files' places as one.

    A reader sees the old files or the new, never half of one. Folders are made if absent. Raises what the block raises,
    and OSError if the disk is full or not writable; what was there before is then untouched, and no stage stays.
    """
    stages = [file.with_name(f".{file.name}.{uuid.uuid4().hex}") for file in files]
    try:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_dir():  # found now, before another file has taken its place
                raise IsADirectoryError(f"{file} is a folder")
        yield stages
        for stage in stages:
            sync(stage)
        for stage, file in zip(stages, files):
            os.replace(stage, file)
        for folder in {file.parent for file in files}:
            sync(folder)
    finally:
        for stage in stages:
            with contextlib.suppress(OSError):
                stage.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk. Raises OSError."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, ``~`` being their home."""
    return Path(os.path.expanduser(path))


def write_text(file: Path, text: str) -> None:
    """Write a text whole or not at all. Raises OSError."""
    with replacing(file) as (stage,):
        stage.write_text(text, encoding="utf-8")


def write_json(file: Path, data: Any) -> None:
    """Write JSON whole or not at all. Raises CheckpointError naming the file."""
    try:
        write_text(file, json.dumps(data, indent=2) + "\n")
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"could not write {file}: {error}; what was there before is untouched") from error


def read_json(file: Path, *, error: type[WorldFluxError] = CheckpointError) -> dict[str, Any]:
    """Read a JSON object. Raises ``error``, naming the file and what is wrong with it."""
    try:
        with file.open("rb") as handle:
            text = handle.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES >> 20} MB")
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"it holds a {type(data).__name__}, expected an object")
        if _depth(data) > MAX_DEPTH:  # it would exhaust the stack of whoever walks through it
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    except FileNotFoundError as reason:
        raise error(f"{file} does not exist") from reason
    except (OSError, ValueError, RecursionError) as reason:
        raise error(f"{file} cannot be read as JSON: {reason}") from reason
    return data


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def sha256(file: Path) -> str:
    """Hex digest of a file. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
