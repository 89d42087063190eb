"""Saved models: three files in a folder; what writes and reads them is no part of the kernel (``worldflux.saved``)."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import torch
from torch import nn
from typing_extensions import Self

from .config import WorldModelConfig
from .errors import CheckpointError, ConfigurationError
from .registry import WorldModelRegistry
from .spec import ModelIOContract

CONFIG, WEIGHTS, META = "config.json", "model.safetensors", "worldflux_meta.json"


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
        folder: Path = WorldModelRegistry.reach("integration", "saved").save_model(self, path)
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
