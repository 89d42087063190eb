"""Training by the official program, danijar/dreamerv3, in a process of its own: its command line, its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from worldflux import ConfigurationError, get_config
from worldflux.delegated import MetricsSource, Program, Request, SubprocessBackend

from .official import SAME, SETTINGS
from .official_run import PYTHON_VARIABLE

# The block of its configs.yaml that a preset is, where they differ in name.
_BLOCKS = {"official_xl": "size200m"}
# What the program calls the fields of ours that are no settings of its agent.
_RUN = {
    "batch_size": "batch_size", "sequence_length": "batch_length", "replay_ratio": "run.train_ratio",
    "num_envs": "run.envs", "env_steps": "run.steps", "seed": "seed",
}  # fmt: skip
# The task decides these.
_OF_THE_TASK = {"obs_shape", "action_dim", "action_type", "observation_modalities", "action_spec"}
_OURS_TO_SAY = {
    "logdir": "TrainingConfig(output_dir=...)", "task": "submit(task=...)", "run.steps": "submit(env_steps=...)",
    "seed": "TrainingConfig(seed=...)", "script": "nothing else: a job trains",
}  # fmt: skip
_RENAME: Mapping[str, str | None] = {
    "episode/score": "episode/return", "train/opt/loss": "loss", "train/opt/grad_norm": "grad_norm", "train/": "",
}  # fmt: skip


class OfficialDreamerV3(SubprocessBackend):
    """danijar/dreamerv3 as a backend.

    A preset is its block of ``configs.yaml``; fields of our config that differ from the preset are given as its
    settings, ``agent.*`` or ``run.*``. Training fields nobody changed, such as the replay ratio, are the program's
    own, which its blocks for suites set: ``options={"configs": ["crafter"], "run.envs": 8}``. ``options`` have the last
    word. Observations and actions are the task's.
    """

    id = "official_dreamerv3_jax_subprocess"
    origin = "https://github.com/danijar/dreamerv3"
    python_variable = PYTHON_VARIABLE
    checkout_variable = "WORLDFLUX_DREAMERV3_CHECKOUT"
    checkout_files = ("dreamerv3/main.py", "dreamerv3/configs.yaml", "embodied")
    modules = (
        "jax", "chex", "cloudpickle", "einops", "elements", "ninjax", "numpy", "optax", "portal", "ruamel.yaml",
    )  # fmt: skip
    training = ("batch_size", "device", "learning_rate", "seed", "sequence_length")

    def program(self, request: Request) -> Program:
        """``main.py`` with its flags. Raises ConfigurationError for a setting that it does not have."""
        if "_" not in request.task:
            raise ConfigurationError(
                f"task is {request.task!r}, expected SUITE_TASK of the official program, such as 'dmc_walker_walk' or "
                "'crafter_reward'"
            )
        if set("{}") & set(str(request.folder)):
            raise ConfigurationError(f"the official program fills in braces in {str(request.folder)!r}: choose another")
        options = dict(request.options)
        blocks = options.pop("configs", ())
        blocks = [blocks] if isinstance(blocks, str) else list(blocks)
        size = request.model_id.rpartition(":")[2]
        flags: dict[str, Any] = {"task": request.task, "logger.outputs": "jsonl"}
        if request.env_steps is not None:
            flags["run.steps"] = request.env_steps
        flags |= _changed(request) | _training(request.training) | _options(options)
        argv = [str(request.checkout / "dreamerv3/main.py"), "--logdir", str(request.folder)]
        argv += ["--configs", *blocks, _BLOCKS.get(size, size)]
        for name, value in flags.items():
            argv += [f"--{name}", *_texts(name, value)]
        return Program(
            tuple(argv),
            metrics=(MetricsSource("metrics.jsonl", env_steps="step", step="train/opt/updates", rename=_RENAME),),
            env=_devices(request.training),
            checkpoints="ckpt/*",
            complete="done",
        )


def _changed(request: Request) -> dict[str, Any]:
    """Fields of the config that are not the preset's, by their official names."""
    preset = get_config(request.model_id).to_dict()
    changed = {f: v for f, v in request.config.items() if f not in _OF_THE_TASK and v != preset.get(f)}
    flags: dict[str, Any] = {}
    for field, value in changed.items():
        names = [f"agent.{official}" for official, own in (SETTINGS | SAME).items() if own == field]
        if field == "loss_scales":
            flags |= {f"agent.loss_scales.{name}": scale for name, scale in value.items()}
        elif names or field in _RUN:
            flags |= dict.fromkeys([*names, *([_RUN[field]] if field in _RUN else [])], value)
        else:
            raise ConfigurationError(f"{field} = {value!r} has no counterpart in the official program; leave it out")
    if request.env_steps is not None:
        flags.pop("run.steps", None)
    return flags


def _training(given: Mapping[str, Any]) -> dict[str, Any]:
    flags = {_RUN[name]: value for name, value in given.items() if name in _RUN}
    if "learning_rate" in given:
        flags["agent.opt.lr"] = given["learning_rate"]
    if (device := given.get("device", "auto")) != "auto":
        flags["jax.platform"] = str(device).partition(":")[0]
    return flags


def _devices(given: Mapping[str, Any]) -> dict[str, str]:
    index = str(given.get("device", "auto")).partition(":")[2]
    return {"CUDA_VISIBLE_DEVICES": index} if index else {}


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name in _OURS_TO_SAY:
            raise ConfigurationError(f"options hold {name!r}, which {_OURS_TO_SAY[name]} says")
        if name == "logger.outputs" and "jsonl" not in _texts(name, value):
            raise ConfigurationError("logger.outputs must hold 'jsonl': the metrics are read from there")
    return dict(given)


def _texts(name: str, value: Any) -> list[str]:
    """A setting's value as the words after its flag."""
    if isinstance(value, Mapping) or value is None or value == "" or str(value).startswith("--"):
        raise ConfigurationError(f"setting {name} is {value!r}, expected text, a number, True, False or a list of them")
    if isinstance(value, (list, tuple)):
        return [word for part in value for word in _texts(name, part)]
    return [os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
