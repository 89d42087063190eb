"""What a run of the official program left behind: its checkpoints, read safely; its settings and spaces."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux import CheckpointError, ConfigurationError
from worldflux.delegated import Job, program_environment

# Its own YAML library reads it: the file has lines that only a whole YAML parser understands.
_READ = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(open(sys.argv[1]))))"
_SPACE = re.compile(r"^\s+(\S+)\s+Space\((\w+), shape=\(([\d, ]*)\), low=(\S+), high=(\S+)\)$")

# What an array is pickled as, across versions of numpy.
_ADMITTED = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"{package}.{module}", name)
    for package in ("numpy.core", "numpy._core")
    for module, name in (("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"))
}


def official_settings(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``import_weights`` takes as ``config``, for a job of the official program in ``run_dir``.

    Raises:
        ConfigurationError: the folder holds no such job, or the program did not come to name its spaces.
    """
    job = Job.open(run_dir)
    python, checkout = job.description["program"]["argv"][0], job.description["request"]["checkout"]
    config = job.folder / "config.yaml"
    try:
        read = subprocess.run(
            [python, "-c", _READ, str(config)],
            cwd=checkout, env=program_environment({}), capture_output=True, text=True, check=True,
        )  # fmt: skip
        agent = json.loads(read.stdout)["agent"]
    except (OSError, subprocess.CalledProcessError, ValueError, LookupError, TypeError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise ConfigurationError(f"{config} cannot be read with {python}: {said.strip().splitlines()[-1]}") from error
    spaces = _spaces(job.logs())
    if not spaces["Observations"] or not spaces["Actions"]:
        raise ConfigurationError(f"{job.log_path} does not tell the observations and actions; did the program start?")
    return {
        "agent_config": dict(_flat(agent)),
        "obs_space": spaces["Observations"],
        "act_space": {name: _action(space) for name, space in spaces["Actions"].items()},
    }


def settings_of(checkpoint: Path | None) -> dict[str, Any]:
    """The settings of the job that a checkpoint lies in. Raises ConfigurationError if it lies in none."""
    path = None if checkpoint is None else Path(os.path.abspath(checkpoint))
    for folder in () if path is None else (path, *path.parents):
        if (folder / "job.json").is_file():
            return official_settings(folder)
    raise ConfigurationError(
        "official weights need their settings: pass config={'agent_config': flattened settings, 'obs_space': "
        "{name: shape}, 'act_space': {name: {'discrete': bool, 'n' or 'dim': int}}}; only a checkpoint in the run "
        "directory of a job goes without"
    )


def _spaces(log: str) -> dict[str, dict[str, Any]]:
    """The spaces the program prints when it starts, by section."""
    found: dict[str, dict[str, Any]] = {"Observations": {}, "Actions": {}}
    section = ""
    for line in re.sub(r"\x1b\[[\d;]*m", "", log).splitlines():
        match = _SPACE.match(line)
        if match and section in found:
            name, dtype, shape, low, high = match.groups()
            sizes = [int(size) for size in shape.split(",") if size.strip()]
            discrete = dtype == "bool" or (re.match(r"u?int", dtype) is not None and len(sizes) != 3)
            classes = (2 if dtype == "bool" else int(high) - int(low)) if discrete else 0
            found[section][name] = {"shape": sizes, "classes": classes}
        elif not match:
            section = line.strip()
    return found


def _action(space: Mapping[str, Any]) -> dict[str, Any]:
    if space["classes"]:
        if space["shape"]:
            raise ConfigurationError(f"actions of several classes each, shape {space['shape']}, are not supported")
        return {"discrete": True, "n": space["classes"]}
    return {"discrete": False, "dim": math.prod(space["shape"])}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in settings.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Return the parameters of an official checkpoint. Raises CheckpointError if it is missing or not only arrays."""
    file = _agent_file(path)
    try:
        with file.open("rb") as handle:
            content = _ArrayUnpickler(handle).load()
    except Exception as error:  # what a damaged pickle raises can be anything
        raise CheckpointError(f"{file} cannot be read as an official checkpoint: {error}") from error
    params = content.get("params", content) if isinstance(content, dict) else None
    if not isinstance(params, dict) or not all(
        isinstance(value, (np.ndarray, np.generic)) for value in params.values()
    ):
        raise CheckpointError(f"{file} holds no official parameters: expected {{'params': {{name: array}}}}")
    return {str(name): np.asarray(value) for name, value in params.items()}


def _agent_file(path: Path) -> Path:
    for _ in range(3):  # run folder, ckpt/, ckpt/<latest>/
        if path.is_file():
            return path
        if (path / "agent.pkl").is_file():
            return path / "agent.pkl"
        if (path / "latest").is_file():
            path = path / (path / "latest").read_text().strip()
        elif (path / "ckpt").is_dir():
            path = path / "ckpt"
    raise CheckpointError(f"{path} holds no official checkpoint: expected agent.pkl, or the ckpt folder with 'latest'")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers and numpy arrays; any other global in the file is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}; only numpy arrays are admitted")
        return super().find_class(module, name)
