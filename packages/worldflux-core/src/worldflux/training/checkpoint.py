"""Checkpoint directories that are whole or absent: staged, hashed, synced, renamed.

A checkpoint ``step-N`` holds the files its writer made and ``manifest.json``, written last, with each file's size and
SHA-256. The file ``latest`` names the newest one. Nothing in a checkpoint is pickled. A file that did not change since
the checkpoint before may be the same file in both (a hard link): either goes without the other.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from worldflux.words.counts import counted

from ..core.errors import CheckpointError
from ..files import MAX_STATE, expanded, json_text, read_bytes, read_json, sha256, sync, write_text

FORMAT, VERSION = "worldflux.checkpoint", 1
logger = logging.getLogger(__name__)


def write_checkpoint(directory: Path, *, step: int, write: Callable[[Path], Any], keep: int) -> Path:
    """Publish ``directory/step-N`` with what ``write(folder)`` puts there, then drop all but the ``keep`` newest.

    ``write`` may return a mapping of files that an earlier checkpoint has, too, to their sizes and SHA-256: they are on
    the disk and are not read again. Returns the checkpoint's path. Raises CheckpointError if the disk is full or a
    file cannot be written; then the unfinished folder is gone and every earlier checkpoint is as it was.
    """
    stage = directory / f".{_name(step)}.tmp-{uuid.uuid4().hex}"
    try:
        stage.mkdir(parents=True)
        returned = write(stage)
        known = returned if isinstance(returned, Mapping) else {}
        names = {path: path.relative_to(stage).as_posix() for path in _files(stage)}
        files = {name: known.get(name) or _describe(path) for path, name in names.items()}
        manifest = {"format": FORMAT, "version": VERSION, "step": step, "created": time.time(), "files": files}
        (stage / "manifest.json").write_text(json_text(manifest, limit=MAX_STATE, indent=1), encoding="utf-8")
        new = [path for path in _files(stage) if names.get(path) not in known]
        for path in (*new, *(p for p in stage.rglob("*") if p.is_dir()), stage):
            sync(path)
        final = _publish(directory, stage, step)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(stage, ignore_errors=True)
        raise CheckpointError(_cannot_save(directory, step, error)) from error
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _prune(directory, step, keep)
    return final


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint whose every file is as it was written.

    Raises CheckpointError naming the first file that is missing, truncated or altered.
    """
    try:
        manifest = read_json(path / "manifest.json", limit=MAX_STATE)
        files, version = dict(manifest["files"]), manifest["version"]
    except (CheckpointError, KeyError, TypeError, ValueError) as error:
        message = f"checkpoint {path} is damaged: manifest.json is missing or unreadable"
        raise CheckpointError(message) from error
    if manifest.get("format") != FORMAT or version != VERSION:
        raise CheckpointError(f"{path} is no {FORMAT} of version {VERSION}, but {manifest.get('format')} {version}")
    for name, expected in files.items():
        try:
            _check_file(path, name, expected)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"checkpoint {path} is damaged: {name} {error}") from error
    return manifest


def _check_file(path: Path, name: str, expected: Mapping[str, Any]) -> None:
    """Raise an error that says what is wrong with a file, or with what the manifest says of it."""
    file = path / name
    if not isinstance(expected, Mapping) or set(expected) != {"bytes", "sha256"}:
        raise ValueError(f"is described by {expected!r}")
    if os.path.isabs(name) or not file.resolve().is_relative_to(path.resolve()):
        raise ValueError("is not in it")
    if not file.is_file():
        raise ValueError("is missing")
    if (size := file.stat().st_size) != expected["bytes"]:
        raise ValueError(f"has {size} bytes of {expected['bytes']}")
    if sha256(file) != expected["sha256"]:
        raise ValueError("was altered after it was saved")


def checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints in a directory, the one to resume from first; none is opened."""
    # Killed while a step was saved again, a run has it under its hidden name.
    found = (*directory.glob(".step-*.old-*"), *directory.glob("step-*"))
    pairs = [(_step(path.name.lstrip(".").partition(".")[0]), path) for path in found if path.is_dir()]
    steps = {step: path for step, path in pairs if step is not None}
    named = _latest(directory)
    # What is newer than `latest` was left by a run that was resumed from an earlier step: it comes last.
    return [steps[step] for step in sorted(steps, key=lambda step: (named is not None and step > named, -step))]


def _latest(directory: Path) -> int | None:
    """The step that ``latest`` names; None, with a warning, if it is damaged: the newest checkpoint is as good then."""
    file = directory / "latest"
    try:
        text = read_bytes(file, limit=100).decode("ascii").strip()
        if (step := _step(text)) is None:
            raise ValueError(f"it says {text!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s names no checkpoint (%s); taking the newest that is whole", file, error)
        return None
    return step


def find_checkpoint(path: str | Path) -> Path:
    """Return the whole checkpoint to resume from: ``path`` is a run, its checkpoints folder, or one checkpoint.

    In a run, a damaged checkpoint is named in a warning and the one before it is taken. Raises CheckpointError if there
    is none, or if ``path`` is one checkpoint and that is damaged.
    """
    path = expanded(path)
    candidates = checkpoints(path / "checkpoints") or checkpoints(path)
    if (path / "manifest.json").is_file() or (not candidates and _step(path.name) is not None):
        read_manifest(path)
        return path
    for candidate in candidates:
        try:
            read_manifest(candidate)
        except CheckpointError as error:
            logger.warning("%s; taking the one before it", error)
        else:
            return candidate
    there = counted(len(candidates), "checkpoint")
    what = f"of {there} in {path} none is whole" if candidates else f"no checkpoint in {path}"
    raise CheckpointError(f"{what}; start a new run, or name the directory of another one")


def _publish(directory: Path, stage: Path, step: int) -> Path:
    final = directory / _name(step)
    old = directory / f".{_name(step)}.old-{uuid.uuid4().hex}"
    if final.exists():  # a run that went back to an earlier step writes its own later ones
        final.rename(old)
    stage.rename(final)
    sync(directory)
    write_text(directory / "latest", final.name + "\n")
    return final


def _prune(directory: Path, step: int, keep: int) -> None:
    """Drop the oldest checkpoints up to ``step`` beyond ``keep``, and what earlier crashes left unfinished."""
    held = [path for path in checkpoints(directory) if (_step(path.name) or 0) <= step]
    for path in (*held[keep:], *directory.glob(".step-*")):
        shutil.rmtree(path, ignore_errors=True)


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _step(name: str) -> int | None:
    match = re.fullmatch(r"step-([0-9]{1,15})", name)
    return int(match[1]) if match else None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _cannot_save(directory: Path, step: int, error: Exception) -> str:
    place = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e6
    return (
        f"cannot save step {step} in {directory}: {error} ({free:,.0f} MB are free there). "
        "Earlier checkpoints are intact: make room, then resume"
    )
