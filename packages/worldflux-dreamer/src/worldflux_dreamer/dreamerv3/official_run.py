"""What a run of the official program left behind: its checkpoints, read safely; its settings and spaces."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldflux import CheckpointError, ConfigurationError
from worldflux.blocks import plain_file
from worldflux.delegated import Job

from .official_pickle import read_arrays

# Its own YAML library reads it: the file has lines that only a whole YAML parser understands.
_READ = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(sys.stdin.buffer)))"
_LONGEST = 1 << 20
PYTHON_VARIABLE = "WORLDFLUX_DREAMERV3_PYTHON"
_SPACE = re.compile(r"^\s+(\S+)\s+Space\((\w+), shape=\(([\d, ]*)\), low=(\S+), high=(\S+)\)$")


def official_settings(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``import_weights`` takes as ``config``, for a job of the official program in ``run_dir``.

    Raises:
        ConfigurationError: the folder holds no such job, the program did not come to name its spaces, or no
            interpreter here can read its settings.
    """
    job = Job.open(run_dir)
    agent = _agent_settings(job.folder / "config.yaml")
    spaces = _spaces(job.logs())
    if not spaces["Observations"] or not spaces["Actions"]:
        raise ConfigurationError(f"{job.log_path} does not tell the observations and actions; did the program start?")
    return {
        "agent_config": dict(_flat(agent)),
        "obs_space": spaces["Observations"],
        "act_space": {name: _action(space) for name, space in spaces["Actions"].items()},
    }


def _agent_settings(config: Path) -> Mapping[str, Any]:
    """The agent's part of the program's settings.

    The job's own files name an interpreter and a checkout, which a stranger may have written: neither is run. What the
    caller's environment names is, apart from the current folder and its modules.
    """
    python = os.environ.get(PYTHON_VARIABLE) or sys.executable
    try:
        with plain_file(config) as handle:
            text = handle.read(_LONGEST)
        read = subprocess.run([python, "-I", "-c", _READ], input=text, capture_output=True, check=True, timeout=60)
        agent = json.loads(read.stdout)["agent"]
        if not isinstance(agent, dict):
            raise TypeError("its agent is no mapping")
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError, RecursionError) as error:
        said = (getattr(error, "stderr", None) or str(error).encode()).decode(errors="replace").strip().splitlines()
        raise ConfigurationError(
            f"{config} cannot be read with {python}: {(said or ['it says nothing'])[-1]}. Set {PYTHON_VARIABLE} to the "
            "interpreter of the official program, or pass config="
        ) from error
    return agent


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
        with plain_file(file) as handle:
            return read_arrays(handle)
    except Exception as error:  # what a damaged pickle raises can be anything
        raise CheckpointError(f"{file} cannot be read as an official checkpoint: {error}") from error


def _agent_file(path: Path) -> Path:
    """The file that the user named, or that their folder names; one in a folder must lie in it."""
    for _ in range(3):  # run folder, ckpt/, ckpt/<latest>/
        if path.is_file():
            return path
        if (path / "agent.pkl").is_file():
            return path / "agent.pkl"
        if (path / "latest").exists():
            path = path / _latest(path / "latest")
        elif (path / "ckpt").is_dir():
            path = path / "ckpt"
    raise CheckpointError(f"{path} holds no official checkpoint: expected agent.pkl, or the ckpt folder with 'latest'")


def _latest(file: Path) -> str:
    try:
        with plain_file(file) as handle:
            name = handle.read(1000).decode("utf-8").strip()
        if not re.fullmatch(r"[\w.-]{1,200}", name) or set(name) == {"."}:
            raise ValueError(f"it says {name[:80]!r}, expected the name of a folder beside it")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} names no official checkpoint: {error}") from error
    return name
