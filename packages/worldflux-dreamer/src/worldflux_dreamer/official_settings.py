"""Settings and spaces of a run of the official program, from what it left behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError
from worldflux.delegated import Job, program_environment

# Its own YAML library reads it: the file has lines that only a whole YAML parser understands.
_READ = "import json, sys; from ruamel.yaml import YAML; print(json.dumps(YAML(typ='safe').load(open(sys.argv[1]))))"
_SPACE = re.compile(r"^\s+(\S+)\s+Space\((\w+), shape=\(([\d, ]*)\), low=(\S+), high=(\S+)\)$")


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
    size = 1
    for length in space["shape"]:
        size *= length
    return {"discrete": False, "dim": size}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in settings.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return pairs
