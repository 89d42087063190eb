"""Saved models on the Hugging Face Hub; the client is an optional extra."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.persistence import CONFIG, META, WEIGHTS, Saved

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


def is_hub_id(name: str) -> bool:
    """Whether ``name`` has the form ``owner/name`` or ``owner/name@revision``."""
    return bool(_HUB_ID.fullmatch(name))


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigurationError('the Hub needs its client: pip install "worldflux-core[hub]"') from error
    return huggingface_hub


def download(name: str) -> Path:
    """Fetch the three files of ``owner/name[@revision]`` and return their folder. Raises CheckpointError."""
    if not is_hub_id(name):
        raise CheckpointError(f"{name!r} does not exist: give a folder written by save_pretrained, or 'owner/name'")
    repo, _, revision = name.partition("@")
    client = _client()
    try:
        files = [CONFIG, WEIGHTS, META]
        return Path(client.snapshot_download(repo, revision=revision or "main", allow_patterns=files))
    except (OSError, ValueError, client.errors.HfHubHTTPError) as error:
        raise CheckpointError(f"there is no folder {name!r}, and the Hub did not give it: {error}") from error


def push(model: Saved, repo_id: str, *, token: str | None, private: bool, commit_message: str) -> str:
    """Create the repository if need be, upload the saved model in one commit, return its URL."""
    if not is_hub_id(repo_id) or "@" in repo_id:
        raise ConfigurationError(f"{repo_id!r} is not a Hub id, expected 'owner/name'")
    api = _client().HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message)
    return str(url)
