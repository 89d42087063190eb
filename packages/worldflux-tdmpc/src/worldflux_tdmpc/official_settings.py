"""Settings of a run of the official program, from what it was told and which task it learned."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from worldflux.core.errors import ConfigurationError
from worldflux.delegated import Job

# Decisions in an episode, by what a task's name begins with; 500 otherwise.
_LENGTHS = {
    "mw-": 100, "myo-": 100, "lift-cube": 100, "pick-": 100, "stack-cube": 100, "turn-faucet": 100, "mujoco-": 1000,
    "bipedal-walker": 1600,
}  # fmt: skip
# The program fixes these for Gymnasium's tasks, whatever it was told.
_OF_GYMNASIUM = {"discount_max": 0.99, "rho": 0.7}
_CONSTANTS = {"true": True, "false": False, "null": None}
_SUITE_TASKS, _METAWORLD_TASKS = 30, 50  # of mt80, in this order; mt30 has the first only


def official_settings(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``import_weights`` takes as ``config``, for a job of the official program in ``run_dir``.

    Raises:
        ConfigurationError: the folder holds no job of this program.
    """
    job = Job.open(run_dir)
    description = job.description
    _, *words = (str(word) for word in description["program"]["argv"][1:])
    pairs = [word.partition("=") for word in words if not word.startswith("hydra.")]
    settings = {name: _value(text) for name, _, text in pairs if name != "model_size"}  # the weights tell that
    if "task" not in settings:
        raise ConfigurationError(
            f"{job.job_path} is of backend {description.get('backend')!r}, not of TD-MPC2's program"
        )
    task = str(settings["task"])
    if task in ("mt30", "mt80"):
        return settings | {"episode_lengths": [500] * _SUITE_TASKS + [100] * _METAWORLD_TASKS * (task == "mt80")}
    length = next((length for name, length in _LENGTHS.items() if task.startswith(name)), 500)
    fixed = _OF_GYMNASIUM if task.startswith(("mujoco-", "bipedal-", "lunarlander-")) else {}
    return settings | {"episode_length": length} | fixed


def settings_of(checkpoint: Path) -> dict[str, Any]:
    """The settings of the job that a checkpoint lies in; none (all official defaults) if it lies in none."""
    path = Path(os.path.abspath(checkpoint))
    for folder in path.parents:
        if (folder / "job.json").is_file():
            return official_settings(folder)
    return {}


def _value(text: str) -> Any:
    """A value as ``official_program`` writes it."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text.strip("'")
