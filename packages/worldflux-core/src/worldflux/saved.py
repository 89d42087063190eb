"""Saved models: three files in a folder, no pickle, names resolved only through the registry.

The files may be a stranger's, so each is judged before memory is taken for the next.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from worldflux.core.config import config_class_of
from worldflux.core.errors import CheckpointError, ConfigurationError, WorldFluxError
from worldflux.core.legacy import API_VERSIONS
from worldflux.core.model import WorldModel
from worldflux.core.persistence import CONFIG, META, WEIGHTS, Saved
from worldflux.core.registry import WorldModelRegistry
from worldflux.file_sets import saved, steady
from worldflux.files import expanded, json_text, opened, read_json, replacing, sha256

Shapes = Mapping[str, tuple[int, ...]]
LARGEST_CONFIG = 1 << 20  # bytes: every entry of a config costs time when the model is built
FORMAT_VERSION = 2
SPARE_TENSORS, SPARE_NUMBERS = 10_000, 1 << 26  # for what is not saved, or is replaced


def save_model(model: Saved, path: str | Path) -> Path:
    """Write a model into a folder, whole or not at all, and return it; raises what ``save_pretrained`` raises."""
    anonymous = sorted(slot for slot, name in model.component_ids.items() if name is None)
    if anonymous:
        raise ConfigurationError(
            f"component {anonymous[0]!r} was given as a class or instance and cannot be found again when loading: "
            "register it with WorldModelRegistry.register_component and pass its id"
        )
    folder, entry = expanded(path), WorldModelRegistry.model(model.config.model_type)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    about = {
        "save_format_version": FORMAT_VERSION,
        "worldflux_version": metadata.version("worldflux-core"),
        "api_version": model.api_version,
        "model_type": model.config.model_type,
        "plugin": entry.plugin,
        "contract_fingerprint": model.contract_fingerprint(),
        "components": model.component_ids,
        "created_at_utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    try:
        with replacing(folder / WEIGHTS, folder / CONFIG, folder / META) as (weights, config, meta):
            weights.write_bytes(save(tensors))  # save_file has a stage of its own, which a kill would leave
            config.write_text(json_text(model.config.to_dict(), limit=LARGEST_CONFIG))
            about["sha256"] = {CONFIG: sha256(config), WEIGHTS: sha256(weights)}
            meta.write_text(json_text(about))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"could not write {folder}: {error}; what was there before is untouched") from error
    return folder


def load(name_or_path: str | Path) -> WorldModel:
    """Load a saved model from a folder or, for ``owner/name[@revision]``, from the Hub.

    Raises CheckpointError if a file is missing, damaged or altered, ConfigurationError if its family, its components or
    its contract are not what is installed here.
    """
    folder = expanded(name_or_path)
    if not folder.exists():
        folder = WorldModelRegistry.reach("integration", "hub").download(str(name_or_path))

    def read() -> tuple[WorldModel, dict[str, Path]]:
        meta = _meta(folder)
        for file in folder.glob(WEIGHTS):  # said before its hash is found to be another
            refuse_pickle(file)
        files = saved(folder / META, {name: meta["sha256"].get(name) for name in (CONFIG, WEIGHTS)})
        data = read_json(files[CONFIG], limit=LARGEST_CONFIG)
        with stored(files[WEIGHTS]) as weights:
            names = weights.keys()
            shapes = {name: tuple(weights.get_slice(name).get_shape()) for name in names}
            model = _build(folder, meta, data, shapes)
            fill(model, {name: weights.get_tensor(name) for name in names}, folder / WEIGHTS)
        return model, files

    return steady(folder / META, read)


def confirmed(path: Path, given: Mapping[str, Any]) -> WorldModel:
    """A saved model in eval mode, which the caller's fields may confirm but not change; raises ConfigurationError."""
    loaded = WorldModel.from_pretrained(path)
    asked = loaded.config.with_overrides(**given)
    for name in given:
        saved_as, wanted = getattr(loaded.config, name), getattr(asked, name)
        if saved_as != wanted:
            raise ConfigurationError(f"{path} was saved with {name}={saved_as!r}, not {wanted!r}; leave it out")
    return loaded


def _meta(folder: Path) -> dict[str, Any]:
    meta = read_json(folder / META)
    version = meta.get("save_format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{folder / META}: format {version!r}, this worldflux reads {FORMAT_VERSION}")
    if meta.get("api_version") not in API_VERSIONS:
        raise CheckpointError(f"{folder / META}: unknown api_version {meta.get('api_version')!r}")
    for name in ("components", "sha256"):
        if not isinstance(meta.get(name), dict) or not all(isinstance(value, str) for value in meta[name].values()):
            raise CheckpointError(f"{folder / META} must map slots to components and files to their sha256")
    return meta


def _build(folder: Path, meta: dict[str, Any], data: dict[str, Any], shapes: Shapes) -> WorldModel:
    """The model of a config that may ask for anything: whatever it asks for, the weights have to be there."""
    family = data.get("model_type")
    if not isinstance(family, str) or family != meta.get("model_type"):
        raise ConfigurationError(
            f"{folder}: config.json says model_type {family!r}, {META} says {meta.get('model_type')!r}"
        )
    entry = WorldModelRegistry.model(family)
    config = config_class_of(entry).from_dict(data)

    def build() -> WorldModel:
        model: WorldModel = entry.model_class(config)
        model.api_version = meta["api_version"]
        for slot, component in meta["components"].items():
            model.set_component(slot, component)
        if meta.get("contract_fingerprint") != model.contract_fingerprint():
            raise ConfigurationError(
                f"{folder} was saved by {meta.get('plugin')} under another input/output contract than the installed "
                f"{entry.plugin or family} builds from the same config: install the version it was saved with"
            )
        check_fit(model, shapes, folder / WEIGHTS)
        return model

    # First without memory. A family that cannot be built so is held to the size of its weights while it is built.
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), _no_larger_than(shapes, folder):
                model = build()
        except WorldFluxError:
            raise
        except Exception as error:  # whatever absurd options lead to
            if device == "cpu":
                raise ConfigurationError(f"{folder}: no {family} can be built from config.json: {error}") from error
    return model


@contextlib.contextmanager
def _no_larger_than(shapes: Shapes, folder: Path) -> Iterator[None]:
    """Refuse a model, while it is built, that takes several times what its weights do."""
    tensors = SPARE_TENSORS + 4 * len(shapes)
    numbers = SPARE_NUMBERS + 4 * sum(map(math.prod, shapes.values()))
    here = threading.get_ident()

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal tensors, numbers
        if threading.get_ident() != here:  # torch asks the hooks for the modules of all threads
            return
        tensors, numbers = tensors - 1, numbers - (0 if value is None else value.numel())
        if tensors < 0 or numbers < 0:
            raise CheckpointError(f"{folder}: config.json asks for a model far larger than its weights")

    hooks = register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def stored(file: Path) -> Iterator[Any]:
    """A safetensors file, of which nothing but the header is read yet. Raises CheckpointError if it is none."""
    refuse_pickle(file)
    try:
        with safe_open(str(file), "pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises CheckpointError if it is none."""
    with stored(file) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118  it is no mapping


def refuse_pickle(file: Path) -> None:
    """Raise CheckpointError if a weights file is a pickle or a torch archive; those can run code when read."""
    try:
        with opened(file) as handle:
            head = handle.read(4)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if (head[:1] == b"\x80" and head[1:2] <= b"\x05" and head[2:] != b"\0\0") or head == b"PK\x03\x04":
        raise CheckpointError(f"{file} is a pickle, not safetensors; worldflux does not unpickle weights")


def check_fit(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
    """Raise CheckpointError naming the first tensor of a file that is missing, unknown or of another shape."""
    own = model.state_dict()
    for name in {**own, **shapes}:
        if name not in shapes or name not in own:
            raise CheckpointError(f"{file}: tensor {name!r} is {'unknown' if name in shapes else 'missing'}")
        if (expected := tuple(own[name].shape)) != shapes[name]:
            raise CheckpointError(f"{file}: tensor {name!r} has shape {shapes[name]}, the model has {expected}")


def load_weights(model: nn.Module, file: Path) -> None:
    """Set a model's weights from a safetensors file, all of them. Raises CheckpointError as ``fill`` does."""
    fill(model, read_tensors(file), file)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Set a model's weights to those of a file. Raises CheckpointError if one has another name, shape or dtype."""
    check_fit(model, {name: tuple(value.shape) for name, value in tensors.items()}, file)
    for name, value in model.state_dict().items():
        if tensors[name].dtype != value.dtype:
            raise CheckpointError(f"{file}: tensor {name!r} is {tensors[name].dtype}, the model has {value.dtype}")
    model.load_state_dict(tensors)
