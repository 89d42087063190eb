"""Training by the official program, nicklashansen/tdmpc2, in a process of its own: its command line, its files."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldflux import ConfigurationError, did_you_mean, get_config
from worldflux.delegated import MetricsSource, Program, Request, SubprocessBackend, program_environment

from .config import TDMPC2Config
from .official import SETTINGS, SHAPES

NO_GPU_CHECK = "WORLDFLUX_TDMPC2_NO_GPU_CHECK"
TASK_SETS = ("mt30", "mt80")
_SIZES = ("enc_dim", "mlp_dim", "latent_dim", "num_enc_layers", "num_q")
# What the program calls our fields: settings of its agent, and of its loop.
_OFFICIAL = {
    own: official
    for official, own in (SETTINGS | dict(zip(SHAPES, SHAPES))).items()
    if own not in ("action_dim", "action_dims", "episode_length", "episode_lengths")
} | {"env_steps": "steps", "seed": "seed", "compiled": "compile"}
# The task decides these.
_OF_THE_TASK = {"obs_shape", "action_dim", "action_type", "observation_modalities", "action_spec", "model_name"}
_OURS_TO_SAY = {
    "task": "submit(task=...) says", "steps": "submit(env_steps=...) says", "seed": "TrainingConfig(seed=...) says",
    "model_size": "the preset says", "exp_name": "TrainingConfig(output_dir=...) says",
    "checkpoint": "training does not read",
}  # fmt: skip
_WORKED_OUT = frozenset(
    "work_dir task_title multitask tasks obs_shape action_dim episode_length obs_shapes action_dims episode_lengths "
    "seed_steps bin_size task_dim".split()
)
# A line for the screen: its kind, then episodes (E), decisions or updates (I), return (R), success (S) and time (T).
_LINE = r"^\s*{}\s.* I: (?P<step>[\d,]+)\s+R: {}\s+S: (?P<success>\S+)"
_GPU = """
import torch
print()
print(torch.__version__, torch.version.cuda, torch.cuda.is_available())
"""


class OfficialTDMPC2(SubprocessBackend):
    """nicklashansen/tdmpc2 as a backend.

    A preset is its ``model_size``; fields of our config that differ from the preset are given as its settings.
    ``options`` are settings by the names of its ``config.yaml`` and have the last word. Observations and actions are
    the task's. The program computes on a GPU only, so the interpreter's torch must see one; the variable
    ``WORLDFLUX_TDMPC2_NO_GPU_CHECK=1`` submits without asking.
    """

    id = "official_tdmpc2_torch_subprocess"
    origin = "https://github.com/nicklashansen/tdmpc2"
    python_variable = "WORLDFLUX_TDMPC2_PYTHON"
    checkout_variable = "WORLDFLUX_TDMPC2_CHECKOUT"
    checkout_files = ("tdmpc2/train.py", "tdmpc2/config.yaml")
    modules = (
        "torch", "tensordict", "torchrl", "hydra", "hydra_plugins.hydra_submitit_launcher", "omegaconf", "gymnasium",
        "numpy", "pandas", "termcolor", "tqdm",
    )  # fmt: skip
    install = (
        "torch==2.7.1 tensordict==0.8.3 torchrl==0.8.1 hydra-core==1.3.2 hydra-submitit-launcher==1.2.0 "
        "gymnasium==0.29.1 dm-control==1.0.16 mujoco==3.1.2 numpy==1.24.4 pandas==2.0.3 termcolor==2.4.0 tqdm==4.66.4"
    )
    training = ("batch_size", "device", "learning_rate", "seed")

    def program(self, request: Request) -> Program:
        """``train.py`` with its settings. Raises ConfigurationError for one that it does not have."""
        settings = _settings(request)
        work = f"logs/{settings['task']}/{settings['seed']}/{settings['exp_name']}"
        words = [f"{name}={_text(name, value)}" for name, value in settings.items()]
        return Program(
            (str(request.checkout / "tdmpc2/train.py"), *words, "hydra.run.dir=."),
            metrics=_metrics(f"{work}/eval.csv", updates=settings["task"] in TASK_SETS),
            # Plain text on its output, and errors with all that led to them.
            env={"NO_COLOR": "1", "ANSI_COLORS_DISABLED": "1", "HYDRA_FULL_ERROR": "1", **_devices(request.training)},
            checkpoints=f"{work}/models/*.pt",
        )

    def check_modules(self, python: Path, checkout: Path, env: Mapping[str, str]) -> str:
        """Return the interpreter's version, if it has every module and its torch a GPU. Raises ConfigurationError."""
        version = super().check_modules(python, checkout, env)
        if {**os.environ, **env}.get(NO_GPU_CHECK, "") in ("", "0"):
            self._check_gpu(python, checkout, env)
        return version

    def _check_gpu(self, python: Path, checkout: Path, env: Mapping[str, str]) -> None:
        seen = program_environment(env)
        try:
            asked = subprocess.run(
                [str(python), "-c", _GPU], cwd=checkout, env=seen, stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=300, check=True,
            )  # fmt: skip
            torch, cuda, available = asked.stdout.splitlines()[-1].split()
        except (OSError, subprocess.SubprocessError, ValueError, LookupError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
            raise ConfigurationError(f"{python} cannot tell whether there is a GPU: {''.join(said)}") from error
        if available == "True":
            return
        if cuda == "None":
            why = f"torch {torch} of {python} is built without CUDA; install one that has it"
        else:
            shown = seen.get("CUDA_VISIBLE_DEVICES")
            hidden = "" if shown is None else f" (CUDA_VISIBLE_DEVICES is {shown!r})"
            why = f"torch {torch} of {python} sees none{hidden}; `nvidia-smi` lists those of this machine"
        raise ConfigurationError(
            f"the official program of backend {self.id!r} computes on an NVIDIA GPU only, and {why}. Leave backend out "
            f"of create_world_model to train here without; submit(env={{'{NO_GPU_CHECK}': '1'}}) submits all the same"
        )


def _settings(request: Request) -> dict[str, Any]:
    """Everything the program is told, by its names."""
    size = re.search(r"(\d+)m\b", request.model_id.replace("_", " "))
    if size is None:
        raise ConfigurationError(f"{request.model_id!r} is no size of the official program")
    config = TDMPC2Config.from_dict(request.config)
    settings: dict[str, Any] = {
        "task": _task(request.task), "seed": 1, "exp_name": "default", "enable_wandb": False,
    }  # fmt: skip
    settings |= _changed(request) | _training(request.training)
    if request.env_steps is not None:
        settings["steps"] = request.env_steps
    if config.image_names:
        if config.vector_names:
            raise ConfigurationError("the official program observes images or vectors, not both; give one of them")
        settings["obs"] = "rgb"
    settings |= _options(request)
    # Its model_size overrides single sizes: where one differs, all are given instead.
    if changed := set(settings) & set(_SIZES):
        settings |= {name: getattr(config, name) for name in _SIZES if name not in changed}
    else:
        settings["model_size"] = int(size[1])
    if settings.get("obs") == "rgb":
        settings.setdefault("num_channels", settings.get("latent_dim", config.latent_dim) // 16)
    if settings["task"] in TASK_SETS and "data_dir" not in settings:
        raise ConfigurationError(
            f"task {settings['task']!r} learns from recorded data: pass options={{'data_dir': the folder of its .pt "
            "files}"
        )
    return settings


def _task(task: str) -> str:
    """The program's name of a task; ``dmc:`` names are those of our environments."""
    name = task.removeprefix("dmc:").replace("_", "-")
    for ours, official in {"ball-in-cup-": "cup-", "point-mass-": "pointmass-"}.items():
        if name.startswith(ours):
            name = official + name.removeprefix(ours)
    if name not in TASK_SETS and not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name):
        raise ConfigurationError(
            f"task is {task!r}, expected a name of the official program: 'walker-walk' or 'dmc:walker-walk' for "
            "DMControl, 'mw-reach' for Meta-World, 'pick-cube', 'myo-pose', 'mujoco-walker', or the sets 'mt30', 'mt80'"
        )
    return name


def _changed(request: Request) -> dict[str, Any]:
    """Fields of the config that are not the preset's, by their official names."""
    preset = get_config(request.model_id).to_dict()
    settings: dict[str, Any] = {}
    for field, value in request.config.items():
        if field in _OF_THE_TASK or value == preset.get(field):
            continue
        if field == "discount":
            settings |= {"discount_min": value, "discount_max": value}
        elif field == "vmax":
            settings |= {"vmin": -value, "vmax": value}
        elif field in _OFFICIAL:
            settings[_OFFICIAL[field]] = value
        else:
            raise ConfigurationError(f"{field} = {value!r} has no counterpart in the official program; leave it out")
    return settings


def _training(given: Mapping[str, Any]) -> dict[str, Any]:
    device = str(given.get("device", "auto"))
    if device != "auto" and not re.fullmatch(r"cuda(:\d+)?", device):
        raise ConfigurationError(f"device is {device!r}, but the official program computes on 'cuda' only")
    names = {"batch_size": "batch_size", "learning_rate": "lr", "seed": "seed"}
    return {names[name]: value for name, value in given.items() if name in names}


def _devices(given: Mapping[str, Any]) -> dict[str, str]:
    index = str(given.get("device", "auto")).partition(":")[2]
    return {"CUDA_VISIBLE_DEVICES": index} if index else {}


def _options(request: Request) -> dict[str, Any]:
    """The user's settings, if the checkout's ``config.yaml`` has them and they are the user's to give."""
    file = request.checkout / "tdmpc2/config.yaml"
    known = set(re.findall(r"^([A-Za-z_]\w*):", file.read_text(encoding="utf-8"), re.MULTILINE)) - {"defaults"}
    for name, value in request.options.items():
        if name in _OURS_TO_SAY:
            raise ConfigurationError(f"options hold {name!r}, which {_OURS_TO_SAY[name]}")
        if name in _WORKED_OUT:
            raise ConfigurationError(f"options hold {name!r}, which the official program works out from the task")
        if name not in known:
            raise ConfigurationError(f"options hold {name!r}, which {file} does not.{did_you_mean(name, known)}")
        if name == "save_csv" and value is not True:
            raise ConfigurationError("save_csv must be True: the returns of evaluations are read from there")
    return dict(request.options)


def _text(name: str, value: Any) -> str:
    """A setting's value as Hydra reads it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
    if not text or re.search(r"['\\\n]|\$\{", text):
        raise ConfigurationError(
            f"setting {name} is {value!r}, expected a number, True, False, None or text without quotes, backslashes, "
            "line ends and ${"
        )
    return text if re.fullmatch(r"[\w./-]+", text) else f"'{text}'"


def _metrics(table: str, *, updates: bool) -> tuple[MetricsSource, ...]:
    """Its counter is decisions, with one update each once the first episodes are over; for sets of tasks updates."""
    if updates:
        return (MetricsSource("", "lines", r"^\s*pretrain\s+I: (?P<step>[\d,]+)", step="step"),)
    counts = {"step": "step", "env_steps": "step"}
    train, evaluation = _LINE.format("train", r"(?P<reward>\S+)"), _LINE.format("eval", r"\S+")
    return (
        MetricsSource(table, "csv", rename={"episode_reward": "eval/return"}, **counts),
        MetricsSource("", "lines", evaluation, rename={"success": "eval/success"}, **counts),
        MetricsSource("", "lines", train, rename={"reward": "episode/return", "success": "episode/success"}, **counts),
    )
