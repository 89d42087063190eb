"""Saved models: three files in a folder, no pickle, names resolved only through the registry."""

from __future__ import annotations

import json
from abc import abstractmethod
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from typing_extensions import Self

from .config import WorldModelConfig
from .errors import CheckpointError, ConfigurationError
from .files import expanded, read_json, replacing, sha256
from .legacy import API_VERSIONS
from .registry import WorldModelRegistry
from .spec import ModelIOContract

CONFIG, WEIGHTS, META = "config.json", "model.safetensors", "worldflux_meta.json"
FORMAT_VERSION = 2


class Saved(nn.Module):
    """What every model can do with files: write itself into a folder, come back from one, go to the Hub."""

    config: WorldModelConfig
    api_version: str
    component_ids: dict[str, str | None]

    @abstractmethod
    def io_contract(self) -> ModelIOContract:
        """What the model takes and gives."""

    def contract_fingerprint(self) -> str:
        """SHA-256 of the contract; a saved model must meet the same one."""
        return self.io_contract().fingerprint()

    def save_pretrained(self, path: str | Path) -> Path:
        """Write config.json, model.safetensors and worldflux_meta.json into a folder and return it.

        Raises ConfigurationError for components without an id, CheckpointError on disk errors.
        """
        anonymous = sorted(slot for slot, name in self.component_ids.items() if name is None)
        if anonymous:
            raise ConfigurationError(
                f"component {anonymous[0]!r} was given as a class or instance and cannot be found again when loading: "
                "register it with WorldModelRegistry.register_component and pass its id"
            )
        folder, entry = expanded(path), WorldModelRegistry.model(self.config.model_type)
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        about = {
            "save_format_version": FORMAT_VERSION,
            "worldflux_version": metadata.version("worldflux-core"),
            "api_version": self.api_version,
            "model_type": self.config.model_type,
            "plugin": entry.plugin,
            "contract_fingerprint": self.contract_fingerprint(),
            "components": self.component_ids,
            "created_at_utc": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        try:
            with replacing(folder / WEIGHTS, folder / CONFIG, folder / META) as (weights, config, meta):
                save_file(tensors, str(weights))
                config.write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")
                about["sha256"] = {CONFIG: sha256(config), WEIGHTS: sha256(weights)}
                meta.write_text(json.dumps(about, indent=2) + "\n")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"could not write {folder}: {error}; what was there before is untouched") from error
        return folder

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str | torch.device = "cpu") -> Self:
        """Load a saved model, in eval mode, from a folder or, for ``owner/name[@revision]``, from the Hub.

        Raises CheckpointError if a file is missing, damaged or altered, ConfigurationError if its family, its
        components or its contract are not what is installed here, or it is no ``cls``. Nothing found in a file is
        imported or unpickled.
        """
        folder = expanded(name_or_path)
        if not folder.exists():
            folder = WorldModelRegistry.reach("integration", "hub").download(str(name_or_path))
        config_data, meta = read_json(folder / CONFIG), read_json(folder / META)
        _check_meta(folder, meta)
        family = config_data.get("model_type")
        if not isinstance(family, str) or family != meta.get("model_type"):
            raise ConfigurationError(
                f"{folder}: config.json says model_type {family!r}, {META} says {meta.get('model_type')!r}"
            )
        entry = WorldModelRegistry.model(family)
        model = entry.model_class(entry.config_class.from_dict(config_data))
        model.api_version = meta["api_version"]
        for slot, component in meta["components"].items():
            model.set_component(slot, component)
        if meta.get("contract_fingerprint") != model.contract_fingerprint():
            raise ConfigurationError(
                f"{folder} was saved by {meta.get('plugin')} under another input/output contract than the installed "
                f"{entry.plugin or family} builds from the same config: install the version it was saved with"
            )
        load_weights(model, folder / WEIGHTS)
        if not isinstance(model, cls):
            raise ConfigurationError(f"{name_or_path} holds a {type(model).__name__}, not a {cls.__name__}")
        return model.to(device).eval()

    def push_to_hub(
        self, repo_id: str, *, token: str | None = None, private: bool = False, commit_message: str = "Upload model"
    ) -> str:
        """Upload the saved model to the Hub and return its URL."""
        hub = WorldModelRegistry.reach("integration", "hub")
        return str(hub.push(self, repo_id, token=token, private=private, commit_message=commit_message))


def _check_meta(folder: Path, meta: dict[str, Any]) -> None:
    version = meta.get("save_format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(f"{folder / META}: format {version!r}, this worldflux reads {FORMAT_VERSION}")
    if meta.get("api_version") not in API_VERSIONS:
        raise CheckpointError(f"{folder / META}: unknown api_version {meta.get('api_version')!r}")
    if not all(isinstance(meta.get(name), dict) for name in ("components", "sha256")):
        raise CheckpointError(f"{folder / META} must map slots to components and files to their sha256")
    for name in (CONFIG, WEIGHTS):
        file, digest = folder / name, meta["sha256"].get(name)
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


def load_weights(model: nn.Module, file: Path) -> None:
    """Load weights strictly. Raises CheckpointError naming the first missing, unknown or differently shaped tensor."""
    try:
        tensors = load_file(str(file))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file: {error}") from error
    own = model.state_dict()
    for name in {**own, **tensors}:
        if name not in tensors or name not in own:
            raise CheckpointError(f"{file}: tensor {name!r} is {'unknown' if name in tensors else 'missing'}")
        if own[name].shape != tensors[name].shape:
            got, expected = tuple(tensors[name].shape), tuple(own[name].shape)
            raise CheckpointError(f"{file}: tensor {name!r} has shape {got}, the model has {expected}")
    model.load_state_dict(tensors)
