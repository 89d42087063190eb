"""Saved models: three files in a folder, no pickle, names resolved only through the registry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .config import WorldModelConfig, read_json
from .errors import CheckpointError, ConfigurationError
from .legacy import API_VERSIONS
from .registry import WorldModelRegistry

if TYPE_CHECKING:
    from .model import WorldModel

CONFIG, WEIGHTS, META = "config.json", "model.safetensors", "worldflux_meta.json"
FORMAT_VERSION = 2


def worldflux_version() -> str:
    """The installed kernel's version."""
    return metadata.version("worldflux-core")


def write_file(file: Path, write: Callable[[Path], None]) -> None:
    """Write a file whole or not at all: to a neighbour, flushed to disk, then renamed. Raises CheckpointError."""
    staged = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        write(staged)
        with staged.open("rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(staged, file)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            staged.unlink(missing_ok=True)
        raise CheckpointError(f"could not write {file}: {error}; the file before it is untouched") from error


def write_json(file: Path, data: Any) -> None:
    """Write JSON whole or not at all."""
    write_file(file, lambda staged: _write_text(staged, json.dumps(data, indent=2) + "\n"))


def _write_text(file: Path, text: str) -> None:
    file.write_text(text)


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(handle)


def _digest(handle: Any) -> str:
    total = hashlib.sha256()
    while block := handle.read(1 << 20):
        total.update(block)
    return total.hexdigest()


def save_pretrained(model: WorldModel, path: str | Path) -> Path:
    """Write a model into a folder.

    Raises ConfigurationError for components without an id, CheckpointError on disk errors.
    """
    anonymous = sorted(slot for slot, name in model.component_ids.items() if name is None)
    if anonymous:
        raise ConfigurationError(
            f"component {anonymous[0]!r} was given as a class or instance and cannot be found again when loading: "
            "register it with WorldModelRegistry.register_component and pass its id"
        )
    folder, entry = Path(path), WorldModelRegistry.model(model.config.model_type)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"could not create {folder}: {error}") from error
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    write_file(folder / WEIGHTS, lambda file: save_file(tensors, str(file)))
    write_json(folder / CONFIG, model.config.to_dict())
    write_json(
        folder / META,
        {
            "save_format_version": FORMAT_VERSION,
            "worldflux_version": worldflux_version(),
            "api_version": model.api_version,
            "model_type": model.config.model_type,
            "plugin": entry.plugin,
            "contract_fingerprint": model.contract_fingerprint(),
            "components": model.component_ids,
            "sha256": {name: sha256(folder / name) for name in (CONFIG, WEIGHTS)},
            "created_at_utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    )
    return folder


def load_pretrained(source: str | Path, *, device: str | torch.device = "cpu") -> WorldModel:
    """Load a saved model from a folder or, for ``owner/name[@revision]``, from the Hub.

    Raises CheckpointError if a file is missing, damaged or altered, ConfigurationError if its family, its
    components or its contract are not what is installed here. Nothing found in a file is imported or unpickled.
    """
    folder = Path(source)
    if not folder.exists():
        from . import hub

        folder = hub.download(str(source))
    config_data, meta = read_json(folder / CONFIG), read_json(folder / META)
    _check_meta(folder, meta)
    family = config_data.get("model_type")
    if not isinstance(family, str) or family != meta.get("model_type"):
        raise ConfigurationError(
            f"{folder}: config.json says model_type {family!r}, {META} says {meta.get('model_type')!r}"
        )
    entry = WorldModelRegistry.model(family)
    config: WorldModelConfig = entry.config_class.from_dict(config_data)
    model: WorldModel = entry.model_class(config)
    model.api_version = meta["api_version"]
    for slot, component in dict(meta.get("components") or {}).items():
        model.set_component(slot, component)
    if meta.get("contract_fingerprint") != model.contract_fingerprint():
        raise ConfigurationError(
            f"{folder} was saved by {meta.get('plugin')} under another input/output contract than the installed "
            f"{entry.plugin or family} builds from the same config: install the version it was saved with"
        )
    load_weights(model, folder / WEIGHTS)
    return model.to(device)


def _check_meta(folder: Path, meta: dict[str, Any]) -> None:
    version = meta.get("save_format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{folder / META}: format {version!r}, this worldflux reads {FORMAT_VERSION}")
    if meta.get("api_version") not in API_VERSIONS:
        raise CheckpointError(f"{folder / META}: unknown api_version {meta.get('api_version')!r}")
    for name in (CONFIG, WEIGHTS):
        file, digest = folder / name, dict(meta.get("sha256") or {}).get(name)
        if not file.is_file():
            raise CheckpointError(f"{file} is missing")
        if name == WEIGHTS:
            refuse_pickle(file)
        if sha256(file) != digest:
            raise CheckpointError(f"{file} was altered or truncated after saving: its hash differs from {META}")


def refuse_pickle(file: Path) -> None:
    """Raise CheckpointError if a weights file is a pickle or a torch archive; those can run code when read."""
    with file.open("rb") as handle:
        head = handle.read(4)
    if (head[:1] == b"\x80" and head[1:2] <= b"\x05" and head[2:] != b"\0\0") or head == b"PK\x03\x04":
        raise CheckpointError(f"{file} is a pickle, not safetensors; worldflux does not unpickle weights")


def load_weights(model: WorldModel, file: Path) -> None:
    """Load weights strictly. Raises CheckpointError naming the first missing, unknown or differently shaped tensor."""
    try:
        tensors = load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error
    own = model.state_dict()
    for name in own.keys() | tensors.keys():
        if name not in tensors or name not in own:
            raise CheckpointError(f"{file}: tensor {name!r} is {'unknown' if name in tensors else 'missing'}")
        if own[name].shape != tensors[name].shape:
            got, expected = tuple(tensors[name].shape), tuple(own[name].shape)
            raise CheckpointError(f"{file}: tensor {name!r} has shape {got}, the model has {expected}")
    model.load_state_dict(tensors)
