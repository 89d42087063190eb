"""Weights and settings of the official implementation as our model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worldflux import CheckpointError, ConfigurationError, did_you_mean
from worldflux.blocks import load_official, preset_values, read_torch
from worldflux.delegated import Job

from .config import TDMPC2Config
from .model import TDMPC2

# official network -> ours
_NETWORKS = {
    "_encoder": "observation_encoder", "_dynamics": "dynamics_model.latent", "_reward": "dynamics_model.reward",
    "_termination": "decoder.termination", "_pi": "prior.net", "_Qs.params": "critics",
    "_target_Qs_params": "target_critics", "_task_emb": "task_embedding",
}  # fmt: skip
_CONVOLUTIONS = {0: 2, 2: 4, 4: 6, 6: 8}  # our place -> the official one, behind shift and scaling
_ENSEMBLE = ("weight", "bias", "ln.weight", "ln.bias")
# Settings that repeat what the shapes say: they must agree.
SHAPES = ("episodic", "num_q", "mlp_dim", "latent_dim", "num_bins", "action_dim", "enc_dim", "num_enc_layers")
# Other official settings -> our fields; all but two are called alike.
SETTINGS = {"lr": "learning_rate", "grad_clip_norm": "grad_clip"} | {
    name: name
    for name in (
        "rho horizon consistency_coef reward_coef value_coef termination_coef entropy_coef tau enc_lr_scale batch_size "
        "discount_min discount_max episode_length episode_lengths action_dims mpc iterations num_samples num_elites "
        "num_pi_trajs min_std max_std temperature log_std_min log_std_max vmax simnorm_dim dropout"
    ).split()
}
_MODEL_SIZES = (1, 5, 19, 48, 317)
# What the official program does beside the model, or derives from other settings.
_FREE = frozenset(
    "task tasks obs obs_shape obs_shapes multitask task_dim num_channels bin_size vmin discount_denom steps "
    "seed seed_steps eval_episodes eval_freq buffer_size exp_name data_dir checkpoint reward_smoothing wandb_project "
    "wandb_entity wandb_silent enable_wandb save_csv save_video save_agent compile compile_type work_dir task_title "
    "model_size use_all_mt iterations_used".split()
)

# Decisions in an episode, by what a task's name begins with; 500 otherwise.
_LENGTHS = {
    "mw-": 100, "myo-": 100, "lift-cube": 100, "pick-": 100, "stack-cube": 100, "turn-faucet": 100, "mujoco-": 1000,
    "bipedal-walker": 1600,
}  # fmt: skip
# The program fixes these for Gymnasium's tasks, whatever it was told.
_OF_GYMNASIUM = {"discount_max": 0.99, "rho": 0.7}
_CONSTANTS = {"true": True, "false": False, "null": None}
_SUITE_TASKS, _METAWORLD_TASKS = 30, 50  # of mt80, in this order; mt30 has the first only


def load(source: Mapping[str, Any] | str | Path, config: Mapping[str, Any] | None = None) -> TDMPC2:
    """Build our model from official TD-MPC2 weights.

    Args:
        source: a checkpoint file, or a mapping of official parameter names to arrays, in any of the three layouts that
            were published (2023 before and after release, 2024 and later). Files are read with ``weights_only=True``.
        config: official settings (``config.yaml``) where they differ from the defaults. Sizes are taken from the
            weights. Several tasks need ``episode_lengths`` for their discounts and, in files of 2023, ``action_dims``.
            A checkpoint in the run directory of a job of the official program brings them along.

    Returns:
        The model in evaluation mode. Its scale of values, which no official checkpoint holds, is 1.

    Raises:
        ConfigurationError: settings are missing, unknown or not supported here, or contradict the weights; names or
            shapes of weights differ from what they should be.
        CheckpointError: the file is missing, or no checkpoint.
    """
    if config is None:
        config = {} if isinstance(source, Mapping) else settings_of(Path(source))
    weights = _current(source if isinstance(source, Mapping) else read_checkpoint(Path(source)))
    model = TDMPC2(official_config(weights, config))
    if not any(name.startswith("_target_Qs_params.") for name in weights):
        critics = {name: value for name, value in weights.items() if name.startswith("_Qs.params.")}
        weights |= {name.replace("_Qs.params", "_target_Qs_params"): value for name, value in critics.items()}
    load_official(model, weights, official_names(model))
    model.updates.fill_(1)  # it has learnt: it plans
    return model.eval()


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the state of an official checkpoint. Raises CheckpointError if it is missing or holds anything else."""
    content = read_torch(file, example="dog-run-1.pt")
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} holds no official model: expected {{'model': {{name: tensor}}}}")
    if strange := [name for name in state if not isinstance(name, str)]:
        kind = type(strange[0]).__name__
        raise CheckpointError(f"{file} cannot be read as an official checkpoint: it has a {kind} for a tensor's name")
    return state


def _current(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of any layout under the names of the current one, without what repeats others."""
    state = state["model"] if isinstance(state.get("model"), Mapping) else state
    kept = {
        str(name): torch.as_tensor(value)
        for name, value in state.items()
        if not str(name).endswith((".__batch_size", ".__device")) and not str(name).startswith("_detach_Qs_params.")
    }
    flat = "_dynamics.0.0.weight" in kept
    renamed: dict[str, Tensor] = {}
    for name, value in kept.items():
        renamed[_ensemble_name(name) or (_flat_name(name) if flat else name)] = value
    return renamed


def _ensemble_name(name: str) -> str | None:
    """The current name of a critic's tensor that is known by its number."""
    match = re.fullmatch(r"_(target_)?Qs\.params\.(\d+)", name)
    if match is None:
        return None
    layer, kind = divmod(int(match[2]), len(_ENSEMBLE))
    return f"_{'target_Qs_params' if match[1] else 'Qs.params'}.{layer}.{_ENSEMBLE[kind]}"


def _flat_name(name: str) -> str:
    """The current name of a tensor of the first layout, in which every sublayer has a number of its own."""
    if match := re.fullmatch(r"_encoder\.state\.(\d+)\.(weight|bias)", name):
        layer, place = divmod(int(match[1]), 3)  # dropout, linear, norm (and an activation)
        return f"_encoder.state.{layer}.{'ln.' if place == 2 else ''}{match[2]}"
    if match := re.fullmatch(r"_dynamics\.1\.(weight|bias)", name):
        return f"_dynamics.2.ln.{match[1]}"
    if match := re.fullmatch(r"(_dynamics\.0|_reward|_pi)\.(\d+)\.(weight|bias)", name):
        layer, place = divmod(int(match[2]), 3)  # linear, norm, activation
        return f"{match[1].removesuffix('.0')}.{layer}.{'ln.' if place == 1 else ''}{match[3]}"
    return name


def official_names(model: TDMPC2) -> dict[str, str]:
    """Official name -> our name, for everything in a model's state that official weights hold."""
    found = {}
    for own in model.state_dict():
        for official, prefix in _NETWORKS.items():
            if own.startswith(f"{prefix}."):
                rest = own.removeprefix(f"{prefix}.")
                if match := re.fullmatch(r"rgb\.(\d+)\.(.*)", rest):
                    rest = f"rgb.{_CONVOLUTIONS[int(match[1])]}.{match[2]}"
                found[f"{official}.{rest}"] = own
    return found


def official_config(weights: dict[str, Tensor], settings: Mapping[str, Any]) -> TDMPC2Config:
    """Take sizes from weights of the current layout, the rest from official settings; removes what is no weight.

    Raises ConfigurationError for settings that are missing, unknown, not supported, or contradict the weights.
    """
    settings = {key: value for key, value in settings.items() if value != "???"}  # config.yaml: filled in at the start
    values = _sizes(weights)
    masks, low, span = (weights.pop(name, None) for name in ("_action_masks", "log_std_min", "log_std_dif"))
    if low is not None and span is not None:
        values |= {"log_std_min": float(low), "log_std_max": float(low + span)}
    if masks is not None:
        values["action_dims"] = tuple(int(count) for count in masks.sum(-1))
    for key, value in settings.items():
        value, is_size = tuple(value) if isinstance(value, list) else value, key in SHAPES and key in values
        if is_size or (key in SETTINGS and value is not None):
            if (known := values.setdefault(SETTINGS.get(key, key), value)) != value:
                why = ": this is a checkpoint of another size" if is_size else ""
                raise ConfigurationError(f"official setting {key} = {value!r}, but the weights have {known!r}{why}")
        elif key not in (*SETTINGS, *SHAPES, *_FREE):
            near = did_you_mean(key, [*SETTINGS, *SHAPES, *_FREE])
            raise ConfigurationError(f"unknown official setting {key!r}.{near}")
    _refuse_unsupported(settings, values)
    _refuse_other_sizes(settings, values)
    return TDMPC2Config.from_dict({"model_name": "official", **values})


def _sizes(weights: dict[str, Tensor]) -> dict[str, Any]:
    """What the shapes of weights tell."""

    def shape(name: str) -> torch.Size:
        if name not in weights:
            raise ConfigurationError(
                f"official weights lack {name!r}: this is no TD-MPC2 checkpoint, it holds {sorted(weights)[:3]}"
            )
        return weights[name].shape

    heads, mlp_dim, inputs = shape("_Qs.params.0.weight")
    latent = shape("_dynamics.2.weight")[0]
    sizes: dict[str, Any] = {
        "num_q": heads, "mlp_dim": mlp_dim, "latent_dim": latent, "num_bins": shape("_reward.2.weight")[0],
        "action_dim": shape("_pi.2.weight")[0] // 2, "episodic": "_termination.2.weight" in weights,
    }  # fmt: skip
    tasks, task_dim = weights["_task_emb.weight"].shape if "_task_emb.weight" in weights else (1, 0)
    if tasks > 1:
        sizes |= {"num_tasks": tasks, "task_dim": task_dim}
    if inputs != latent + task_dim + sizes["action_dim"]:
        raise ConfigurationError(
            f"'_Qs.params.0.weight' reads {inputs} numbers; latent {latent}, task {task_dim} and action "
            f"{sizes['action_dim']} make {latent + task_dim + sizes['action_dim']}"
        )
    shown: dict[str, Any] = {}
    if "_encoder.state.0.weight" in weights:
        enc_dim, width = weights["_encoder.state.0.weight"].shape
        layers = [name for name in weights if re.fullmatch(r"_encoder\.state\.\d+\.weight", name)]
        sizes |= {"enc_dim": enc_dim, "num_enc_layers": len(layers)}
        shown["state"] = {"shape": (width - task_dim,)}
    if "_encoder.rgb.2.weight" in weights:
        shown["rgb"] = {"kind": "image", "shape": (weights["_encoder.rgb.2.weight"].shape[1], 64, 64), "dtype": "uint8"}
    if not shown:
        raise ConfigurationError("official weights lack '_encoder.state.0.weight' and '_encoder.rgb.2.weight'")
    return {**sizes, "observation_modalities": {"obs": next(iter(shown.values()))} if len(shown) == 1 else shown}


def _refuse_other_sizes(settings: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise ConfigurationError where settings that only derive from others tell of another checkpoint."""
    tasks, shown = values.get("num_tasks", 1), values["observation_modalities"]
    found: dict[str, Any] = {"multitask": tasks > 1, "task_dim": values.get("task_dim", 0)}
    told = {name: settings[name] for name in found if settings.get(name) is not None}
    if tasks == 1:
        told.pop("task_dim", None)  # config.yaml has one for the case that there are several
    if isinstance(names := settings.get("tasks"), (list, tuple)):
        found["number of tasks"], told["number of tasks"] = tasks, len(names)
    shapes = settings.get("obs_shape") or {}
    if not isinstance(shapes, Mapping) or not all(isinstance(shape, (list, tuple)) for shape in shapes.values()):
        raise ConfigurationError(f"official setting obs_shape = {shapes!r}, expected one such as {{'state': [24]}}")
    for name, shape in shapes.items():
        own = shown.get(name, shown.get("obs"))
        found[f"obs_shape of {name}"], told[f"obs_shape of {name}"] = own and list(own["shape"]), list(shape)
    if (size := settings.get("model_size")) is not None:
        if size not in _MODEL_SIZES:
            raise ConfigurationError(f"official setting model_size = {size!r}, expected one of {_MODEL_SIZES}")
        sized = preset_values(__name__, "tdmpc2", f"{size}m")
        found["model_size"] = size if all(values[n] == sized[n] for n in ("mlp_dim", "num_q")) else "another"
        told["model_size"] = size
    for name, value in told.items():
        if value != found[name]:
            raise ConfigurationError(
                f"official setting {name} = {value!r}, but the weights have {found[name]!r}: this is a checkpoint of "
                "another size"
            )


def _refuse_unsupported(settings: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    limit = values.get("vmax", TDMPC2Config.vmax)
    if settings.get("vmin", -limit) != -limit:
        raise ConfigurationError(
            f"official setting vmin = {settings['vmin']!r} is not supported, only -vmax = {-limit!r}"
        )
    if settings.get("discount_denom", 5) != 5:
        raise ConfigurationError(
            f"official setting discount_denom = {settings['discount_denom']!r} is not supported, only 5"
        )
    if values.get("num_tasks", 1) > 1:
        for name in ("episode_lengths", "action_dims"):
            if name not in values:
                raise ConfigurationError(
                    f"the checkpoint is of {values['num_tasks']} tasks and does not say their {name}: give "
                    f"config={{{name!r}: [...]}}, one number for each"
                )


def official_settings(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """What ``import_weights`` takes as ``config``, for a job of the official program in ``run_dir``.

    Raises:
        ConfigurationError: the folder holds no job of this program.
    """
    job = Job.open(run_dir)
    description = job.description
    try:
        _, *words = (str(word) for word in description["program"]["argv"][1:])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{job.job_path} does not say how its program is called: {error!r:.200}") from error
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
