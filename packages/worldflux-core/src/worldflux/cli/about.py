"""What only a family's code knows of a preset: its options, its training recipe, and what it takes.

It is asked in a process of its own, so that the command loads no torch and a plugin that dies takes nothing with it.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldflux.core.errors import PluginError, WorldFluxError

from .output import apart

if TYPE_CHECKING:
    from worldflux.core.model import WorldModel

SECONDS = 300.0  # to import torch and the family, on a busy machine
_CHILD = (
    "import json, sys; sys.path[:], *asked = json.loads(sys.argv[1])\n"
    "from worldflux.cli.about import tell; tell(*asked)"
)

VECTOR = {"shape": (8,)}
IMAGES = {f"image {size}x{size}": {"shape": (3, size, size)} for size in (32, 64, 96)}
OBSERVED: Mapping[str, Mapping[str, Any]] = {
    "vector": {"obs": VECTOR},
    "several vectors": {"place": VECTOR, "speed": VECTOR},
    **{name: {"obs": image} for name, image in IMAGES.items()},
    "images and vectors": {"camera": IMAGES["image 64x64"], "place": VECTOR},
}
DONE: Mapping[str, Mapping[str, Any]] = {
    "continuous": {"kind": "continuous", "dim": 3},
    "discrete": {"kind": "discrete", "dim": 3},
    "multi": {
        "kind": "multi",
        "parts": [{"name": "arm", "kind": "continuous", "dim": 2}, {"name": "grip", "kind": "discrete", "dim": 3}],
    },
}


def about(model: str) -> dict[str, Any]:
    """Return a preset's ``options``, ``recipe`` and ``takes`` (kinds of actions by what is observed).

    Raises:
        PluginError: the family does not start, or does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "told.json"
        asked = json.dumps([sys.path, model, str(place)])
        try:
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, asked], capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PluginError(f"the family of {model!r} gave no answer in {SECONDS:g} s") from error
        sys.stderr.write(done.stdout + done.stderr if place.exists() else "")
        if not place.exists():
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise PluginError(f"the family of {model!r} could not be asked: {said}")
        told: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    if "problem" in told:
        raise PluginError(told["problem"])
    return told


def tell(model: str, place: str) -> None:
    """Write the answer for a preset to a file, as JSON; the other end of ``about``."""
    try:
        with apart():
            told: dict[str, Any] = {"options": options(model), "recipe": recipe(model)}
        with contextlib.redirect_stdout(io.StringIO()):  # the same again for each of many models
            told["takes"] = taken(model)
    except WorldFluxError as error:
        told = {"problem": str(error)}
    Path(place).write_text(json.dumps(told), encoding="utf-8")


def options(model: str) -> dict[str, dict[str, Any]]:
    """Return what can be set, by name: rule and default as JSON schema, and the value that the preset has."""
    from worldflux import get_config, json_schema

    config = get_config(model)
    values = config.to_dict()
    return {name: {**rule, "value": values[name]} for name, rule in json_schema(type(config))["properties"].items()}


def recipe(model: str) -> dict[str, Any]:
    """Return the options of training and collecting that the model's recipe fills in."""
    import torch

    try:
        built = _built(model)
    except ValueError:  # its preset says too little to build it
        built = _built(model, obs_shape=(8,), action_dim=3)
    for part in built.modules():
        for name, count in list(part.named_buffers(recurse=False)):
            if count.is_meta and count.ndim == 0:  # how often it was updated, which recipes ask for
                setattr(part, name, torch.zeros((), dtype=count.dtype))
    return built.recipe().chosen()


def taken(model: str) -> dict[str, list[str]]:
    """Return the kinds of actions a preset can be built with, by what it observes; found out by building it."""
    found: dict[str, list[str]] = {}
    for seen, modalities in OBSERVED.items():
        found[seen] = []
        for kind, spec in DONE.items():
            with contextlib.suppress(ValueError):
                _built(model, observation_modalities=modalities, action_spec=spec)
                found[seen].append(kind)
    return found


def _built(model: str, **shapes: Any) -> WorldModel:
    """A model without weights, which costs nothing however large it is; with them where its code cannot do without."""
    import torch

    from worldflux import create_world_model

    try:
        with torch.device("meta"):
            return create_world_model(model, device="meta", **shapes)
    except WorldFluxError:
        raise
    except Exception:
        return create_world_model(model, **shapes)
