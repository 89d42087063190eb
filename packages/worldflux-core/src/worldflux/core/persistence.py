"""Saved models: three files in a folder, no pickle, names resolved only through the registry."""

from __future__ import annotations

import json
from abc import abstractmethod
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn
from typing_extensions import Self

from .config import WorldModelConfig
from .errors import CheckpointError, ConfigurationError
from .files import expanded, replacing, sha256
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
                weights.write_bytes(save(tensors))  # save_file has a stage of its own, which a kill would leave
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
        if not isinstance(name_or_path, str | Path):
            raise CheckpointError(f"expected a folder or owner/name, got {name_or_path!r}")
        model = WorldModelRegistry.reach("integration", "saved").load(name_or_path)
        if not isinstance(model, cls):
            raise ConfigurationError(f"{name_or_path} holds a {type(model).__name__}, not a {cls.__name__}")
        return model.to(device).eval()

    def push_to_hub(
        self, repo_id: str, *, token: str | None = None, private: bool = False, commit_message: str = "Upload model"
    ) -> str:
        """Upload the saved model to the Hub and return its URL."""
        hub = WorldModelRegistry.reach("integration", "hub")
        return str(hub.push(self, repo_id, token=token, private=private, commit_message=commit_message))


load_pretrained = Saved.from_pretrained  # its earlier name


load_pretrained = Saved.from_pretrained  # what it was called before
