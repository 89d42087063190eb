"""Weights of a pretrained encoder: which they are, and how they become a network; from a folder here or the Hub.

Nothing is pickled and no code of the weights' author is run. What needs ``transformers`` imports it when it is called.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from worldflux import CheckpointError, ConfigurationError
from worldflux.blocks import plain_file

from .kinds import Kind, kind_of
from .patches import PATCHES, RandomPatches
from .preprocess import PixelRules, rules_of

EXTRA = 'pip install "worldflux-jepa[hf]"'
LARGEST_TEXT = 1 << 24  # bytes of a config or an index
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class Weights:
    """Which weights: their ``kind``, the ``config`` of their class, ``digest`` (SHA-256 of the files), and where they
    are; without a ``folder`` they are drawn from ``seed``."""

    kind: Kind
    config: dict[str, Any]
    pixels: PixelRules
    digest: str
    folder: Path | None = None
    seed: int = 0

    @property
    def width(self) -> int:
        """Channels of a token."""
        return int(self.config["hidden_size"])

    @property
    def patch(self) -> int:
        """Pixels a side of a patch."""
        return _side(self.config["patch_size"])

    @property
    def tubelet(self) -> int:
        """Frames that an image is repeated to."""
        return int(self.config.get("tubelet_size", 1)) if self.kind.video else 1

    @property
    def classes_size(self) -> int | None:
        """Pixels a side of the only pictures that the class reads rightly; None where it reads any."""
        return int(self.config["crop_size"]) if self.kind.video else None

    @property
    def prefix(self) -> int:
        """Tokens before the patches': CLS and registers."""
        return int(self.kind.has_cls) + int(self.config.get("num_register_tokens", 0) or 0)

    def network(self) -> nn.Module:
        """The network in evaluation mode, in float32.

        Raises ConfigurationError where ``transformers`` is missing or too old, CheckpointError for weights that are
        damaged or another model's.
        """
        if self.kind is PATCHES:
            return RandomPatches(self.config, seed=self.seed)
        made = _class_of(self.kind)
        with torch.random.fork_rng(devices=[]), _quiet():
            if self.folder is None:
                torch.default_generator.manual_seed(self.seed)
                network = made(made.config_class(**self.config), **self.kind.build)
            else:
                network = _loaded(made, self.folder, self.kind)
        network = network.float().eval()
        assert isinstance(network, nn.Module)
        return network.requires_grad_(False)

    def drawn(self, seed: int) -> Weights:
        """Random weights of the same class and sizes."""
        return drawn(self.kind, self.config, self.pixels, seed=seed)


def drawn(kind: Kind, config: Mapping[str, Any], pixels: PixelRules, *, seed: int) -> Weights:
    """Random weights of a class, decided by its config and a seed."""
    named = json.dumps([kind.class_name, dict(config), seed], sort_keys=True)
    return Weights(kind, dict(config), pixels, hashlib.sha256(named.encode()).hexdigest(), seed=seed)


def weights_at(source: str | os.PathLike[str], *, revision: str | None = None) -> Weights:
    """The weights in a folder that ``save_pretrained`` of ``transformers`` wrote, or of a Hub id ``owner/name``.

    Raises ConfigurationError for a place that is not there or cannot be reached, a class that is not on the list, or
    code to be run; CheckpointError for files that are missing or damaged.
    """
    folder = folder_of(source, revision=revision)
    config = _read(folder, CONFIG)
    kind = kind_of(config, str(source))
    for name in ("hidden_size", "patch_size"):
        if not isinstance(config.get(name), int | list | tuple):
            raise CheckpointError(f"{folder / CONFIG} has no {name!r}: it describes no {kind.class_name}")
    processor = _read(folder, PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    total = hashlib.sha256(kind.class_name.encode())
    for file in _weight_files(folder):
        total.update(_sha256(file))
    return Weights(kind, config, rules_of(kind, config, processor), total.hexdigest(), folder)


def folder_of(source: str | os.PathLike[str], *, revision: str | None = None) -> Path:
    """The folder on this machine, of a Hub id after it was fetched; raises ConfigurationError."""
    text = os.fspath(source)
    folder = Path(text).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ConfigurationError(f"{text} is a folder, which has no revision {revision!r}: leave revision out")
        return folder
    if not _HUB_ID.fullmatch(text) or text.startswith((".", "~")):
        what = "is a file" if folder.exists() else "does not exist"
        raise ConfigurationError(
            f"encoder source {text!r} {what}: expected a folder with {CONFIG} and {WEIGHTS}, or a Hub id 'owner/name'"
        )
    return _from_hub(text, revision)


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigurationError(f"{name!r} is no folder here, and the Hub needs its client: {EXTRA}") from error
    wanted = [CONFIG, PROCESSOR, "*.safetensors", INDEX]
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise ConfigurationError(
            f"{name!r} is no folder here, is not in the Hub's cache, and the Hub did not give it ({error}): fetch it "
            f"where there is a connection (`hf download {name}`, HF_HUB_OFFLINE unset) and name the folder it lies in"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    """The files of the weights, which must be safetensors. Raises CheckpointError naming what is missing."""
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        found = _read(folder, INDEX).get("weight_map")
        names = sorted({str(name) for name in found.values()}) if isinstance(found, dict) else []
        if not names or any(Path(name).name != name for name in names):
            raise CheckpointError(f"{folder / INDEX} names no files of weights")
    for name in names:
        if not (folder / name).is_file():
            there = sorted(file.name for file in folder.iterdir())
            pickled = any(file.endswith((".bin", ".pt", ".pth")) for file in there)
            hint = (
                ": weights in .bin are pickles and are not read; convert them with save_pretrained" if pickled else ""
            )
            raise CheckpointError(f"{folder} lacks {name}, it has {there[:8]}{hint}")
    return [folder / name for name in names]


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError if it is missing, too large or none."""
    file = folder / name
    if not file.is_file():
        raise CheckpointError(f"{folder} lacks {name}: expected a folder written by save_pretrained of transformers")
    try:
        with plain_file(file) as handle:
            text = handle.read(LARGEST_TEXT + 1)
        value = json.loads(text) if len(text) <= LARGEST_TEXT else None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} holds no JSON object of at most {LARGEST_TEXT} bytes")
    return value


def _sha256(file: Path) -> bytes:
    total = hashlib.sha256()
    with plain_file(file) as handle:
        while piece := handle.read(1 << 20):
            total.update(piece)
    return total.digest()


def _side(value: Any) -> int:
    """One number of a config, of which it may have two equal ones. Raises CheckpointError."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int) or side < 1:
        raise CheckpointError(f"patches of {value!r} pixels: expected one side for all")
    return side


def _class_of(kind: Kind) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigurationError(
            f"a pretrained {kind.class_name} is built by transformers, which is missing: {EXTRA}"
        ) from error
    made = getattr(transformers, kind.class_name, None)
    if made is None:
        version = getattr(transformers, "__version__", "of unknown version")
        raise ConfigurationError(f"transformers {version} has no {kind.class_name}: {EXTRA} --upgrade")
    return made


def _loaded(made: Any, folder: Path, kind: Kind) -> Any:
    """A network with all its weights from files; what is only one in part is refused."""
    from safetensors import SafetensorError  # comes with transformers

    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        network, report = made.from_pretrained(str(folder), **options, **kind.build)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no {kind.class_name} that can be read: {error}") from error
    for what in ("missing_keys", "mismatched_keys"):
        if wrong := sorted(map(str, report.get(what) or ())):
            raise CheckpointError(
                f"{folder}: {what.replace('_', ' ')} of a {kind.class_name}: {wrong[:4]} ({len(wrong)} in all); the "
                "weights are another model's, or of another depth than config.json says"
            )
    return network


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and remarks of ``transformers``, which are put back."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
