"""Everything that can be chosen about a TD-MPC2."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, TypeVar

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.spec import ModalityKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ConfigT = TypeVar("ConfigT", bound="TDMPC2Config")

IMAGE = (64, 64)
PIXELS_LEFT = 16  # of an image after the convolutions
TASK = "task"


@dataclass
class TDMPC2Config(WorldModelConfig):
    """Sizes, losses, planning and training defaults; the values here are ``tdmpc2:5m``, the official default.

    ``num_tasks`` above 1 learns several tasks: observations get a modality ``task`` (an integer below ``num_tasks``),
    every network an embedding of ``task_dim`` numbers; ``action_dims`` says how many actions each task has and
    ``episode_lengths`` how many decisions its episodes last. ``episodic`` learns where episodes end. ``discount``
    None takes the official rule, ``(n - 1) / n`` with n a fifth of the episode's length, cut to ``discount_min`` and
    ``discount_max``. ``horizon`` is that of training and of planning. ``prior`` is "gaussian", or "categorical" for
    discrete actions. ``vmax`` bounds rewards and values in symlog space. ``updates_per_step`` updates follow each
    decision, after ``seed_steps`` decisions at random (None takes the official rule: five of the longest episodes, but
    at least 1,000). ``reference`` always computes every head of the critics. ``compiled`` computes losses and plans
    with ``torch.compile`` (minutes at first, faster after); ``plan_mixed_precision`` plans in bfloat16 where autocast
    deems it safe. Images are 64 × 64; their encoder has ``latent_dim / 16`` channels. Raises ConfigurationError.

    Source: Hansen et al. 2024, table 8; nicklashansen/tdmpc2 ``config.yaml``.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {
        "hidden_dim": "mlp_dim", "num_q_networks": "num_q", "gamma": "discount", "target_q_tau": "tau",
    }  # fmt: skip
    model_type: str = "tdmpc2"
    model_name: str = "5m"
    obs_shape: tuple[int, ...] = (39,)
    # sizes
    enc_dim: int = 256
    mlp_dim: int = 512
    latent_dim: int = 512
    num_enc_layers: int = 2
    num_q: int = 5
    num_bins: int = 101
    vmax: float = 10.0
    simnorm_dim: int = 8
    dropout: float = 0.01
    prior: str = "gaussian"
    log_std_min: float = -10.0
    log_std_max: float = 2.0
    # tasks
    num_tasks: int = 1
    task_dim: int = 64
    action_dims: tuple[int, ...] = ()
    episode_lengths: tuple[int, ...] = ()
    episodic: bool = False
    episode_length: int = 500
    discount: float | None = None
    discount_min: float = 0.95
    discount_max: float = 0.995
    # losses
    horizon: int = 3
    rho: float = 0.5
    consistency_coef: float = 20.0
    reward_coef: float = 0.1
    value_coef: float = 0.1
    termination_coef: float = 1.0
    entropy_coef: float = 1e-4
    tau: float = 0.01
    reference: bool = False
    compiled: bool = False
    # planning
    mpc: bool = True
    plan_mixed_precision: bool = False
    iterations: int = 6
    num_samples: int = 512
    num_elites: int = 64
    num_pi_trajs: int = 24
    min_std: float = 0.05
    max_std: float = 2.0
    temperature: float = 0.5
    # training
    learning_rate: float = 3e-4
    enc_lr_scale: float = 0.3
    grad_clip: float = 20.0
    batch_size: int = 256
    updates_per_step: float = 1.0
    num_envs: int = 1
    seed_steps: int | None = None
    env_steps: int = 500_000

    def __post_init__(self) -> None:
        if self.num_tasks > 1 and TASK not in self.observation_modalities:
            shown = self.observation_modalities or {"obs": {"shape": tuple(self.obs_shape)}}
            self.observation_modalities = {**shown, TASK: {"kind": "other", "shape": (), "dtype": "int64"}}
        super().__post_init__()
        self._check_numbers()
        self._check_observations()
        self._check_actions()
        self._check_tasks()

    def _check_numbers(self) -> None:
        positive = "enc_dim mlp_dim latent_dim num_enc_layers simnorm_dim task_dim num_tasks horizon iterations"
        positive += " num_samples num_elites batch_size num_envs env_steps episode_length vmax max_std temperature"
        positive += " updates_per_step enc_lr_scale"
        for name in positive.split():
            if not 0 < getattr(self, name) < math.inf:
                raise self._error(f"{name} must be positive, got {getattr(self, name)}")
        for name in "consistency_coef reward_coef value_coef termination_coef entropy_coef num_pi_trajs".split():
            if not 0 <= getattr(self, name) < math.inf:
                raise self._error(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in "rho tau discount_min discount_max discount".split():
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise self._error(f"{name} must lie in (0, 1], got {value}")
        if not 0 <= self.dropout < 1:
            raise self._error(f"dropout must lie in [0, 1), got {self.dropout}")
        for name, value in {"num_q": self.num_q, "num_bins": self.num_bins}.items():
            if value < 2:
                raise self._error(f"{name} must be at least 2, got {value}")
        if self.latent_dim % self.simnorm_dim:
            raise self._error(f"latent_dim {self.latent_dim} must be divisible by simnorm_dim {self.simnorm_dim}")
        for low, high in (("min_std", "max_std"), ("log_std_min", "log_std_max"), ("discount_min", "discount_max")):
            if getattr(self, low) > getattr(self, high):
                raise self._error(f"{low} {getattr(self, low)} must not exceed {high} {getattr(self, high)}")
        if self.num_elites > self.num_samples:
            raise self._error(f"num_elites {self.num_elites} must not exceed num_samples {self.num_samples}")
        if self.num_pi_trajs >= self.num_samples:
            raise self._error(f"num_pi_trajs {self.num_pi_trajs} must be below num_samples {self.num_samples}")
        if self.seed_steps is not None and self.seed_steps < 0:
            raise self._error(f"seed_steps must be at least 0, got {self.seed_steps}")

    def _check_observations(self) -> None:
        for name, spec in self.modalities.items():
            if name == TASK and self.num_tasks == 1:
                raise self._error(f"observation {TASK!r} tells tasks apart: set num_tasks, or give it another name")
            if "." in name or name in ("reward", "continue", "latent"):
                raise self._error(f"observation {name!r} needs another name: no dots, none of reward, continue, latent")
            if spec.kind not in (ModalityKind.IMAGE, ModalityKind.VECTOR, ModalityKind.OTHER):
                raise self._error(f"TD-MPC2 observes images and vectors; {name!r} is {spec.kind.value!r}")
            if name in self.image_names and spec.shape[1:] != IMAGE:
                raise self._error(
                    f"image {name!r} must have 64x64 pixels, got {spec.shape[1]}x{spec.shape[2]}: resize it in the "
                    "environment (image_size=64)"
                )
        if self.image_names and self.latent_dim % PIXELS_LEFT:
            raise self._error(f"with images latent_dim must be divisible by {PIXELS_LEFT}, got {self.latent_dim}")

    def _check_actions(self) -> None:
        if self.prior not in ("gaussian", "categorical"):
            near = did_you_mean(self.prior, ("gaussian", "categorical"))
            raise self._error(f"prior must be 'gaussian' or 'categorical', got {self.prior!r}.{near}")
        kind, wanted = self.action_type, {"gaussian": "continuous", "categorical": "discrete"}[self.prior]
        if kind == wanted:
            return
        if kind == "discrete":
            raise self._error("the actions are discrete, but the policy prior is 'gaussian': set prior='categorical'")
        if kind == "continuous":
            raise self._error("the actions are continuous, but the policy prior is 'categorical': set prior='gaussian'")
        raise self._error(f"TD-MPC2 takes continuous or discrete actions, not {kind!r}")

    def _check_tasks(self) -> None:
        for name in ("action_dims", "episode_lengths"):
            values = getattr(self, name)
            if values and self.num_tasks == 1:
                raise self._error(f"{name} is of several tasks, but num_tasks is 1: set num_tasks={len(values)}")
            if values and len(values) != self.num_tasks:
                raise self._error(f"{name} must have one entry for each of {self.num_tasks} tasks, got {len(values)}")
            if any(isinstance(n, bool) or not isinstance(n, int) or n <= 0 for n in values):
                raise self._error(f"{name} must be positive integers, got {values}")
        if max(self.action_dims, default=0) > self.action_dim:
            raise self._error(f"action_dims {self.action_dims} exceed action_dim {self.action_dim}, the largest task's")
        if self.num_tasks > 1 and self.episodic:
            raise self._error("episodic is for one task: episodes of several tasks end by their length alone")
        task = self.modalities.get(TASK)
        if task is not None and (task.shape, task.dtype) != ((), "int64"):
            raise self._error(
                f"observation {TASK!r} must be one int64 number below num_tasks, got {task.dtype} of shape {task.shape}"
            )

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, config_name="TDMPC2Config")

    @property
    def image_names(self) -> list[str]:
        """Image modalities, sorted."""
        return sorted(name for name, spec in self.modalities.items() if spec.kind is ModalityKind.IMAGE)

    @property
    def vector_names(self) -> list[str]:
        """The other modalities but the task, sorted."""
        return sorted(set(self.modalities) - set(self.image_names) - {TASK})

    @property
    def vector_size(self) -> int:
        """Numbers in all vectors together."""
        return sum(math.prod(self.modalities[name].shape) for name in self.vector_names)

    @property
    def image_channels(self) -> int:
        """Channels of all images together."""
        return sum(self.modalities[name].shape[0] for name in self.image_names)

    @property
    def num_channels(self) -> int:
        """Channels of the convolutions: what is left of an image fills the latent exactly."""
        return self.latent_dim // PIXELS_LEFT

    @property
    def embedding_dim(self) -> int:
        """Width of a task's embedding; 0 where there is one task."""
        return self.task_dim if self.num_tasks > 1 else 0

    @property
    def discounts(self) -> tuple[float, ...]:
        """The discount of each task."""
        if self.discount is not None:
            return (self.discount,) * self.num_tasks
        lengths = self.episode_lengths or (self.episode_length,) * self.num_tasks
        rule = [(length / 5 - 1) / (length / 5) for length in lengths]
        return tuple(min(max(value, self.discount_min), self.discount_max) for value in rule)

    @property
    def seed_rows(self) -> int:
        """Decisions at random before the first update."""
        longest = max(self.episode_lengths or (self.episode_length,))
        return max(1000, 5 * longest) if self.seed_steps is None else self.seed_steps

    @property
    def plan_iterations(self) -> int:
        """Iterations of one plan: two more for 20 actions and above."""
        return self.iterations + 2 * (self.action_dim >= 20)

    @property
    def hidden_dim(self) -> int:
        """The width of the networks, by its earlier name."""
        return self.mlp_dim

    @property
    def num_q_networks(self) -> int:
        """The number of critics, by its earlier name."""
        return self.num_q

    @property
    def gamma(self) -> float:
        """The discount (of the first task), by its earlier name."""
        return self.discounts[0]

    @property
    def target_q_tau(self) -> float:
        """The rate of the targets' average, by its earlier name."""
        return self.tau

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``5m``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({"model_name": size, **preset_values("tdmpc2", size), **overrides})


def preset_values(family: str, size: str) -> dict[str, Any]:
    """The config values of a preset of this package. Raises ConfigurationError naming the known sizes."""
    manifest = tomllib.loads(resources.files("worldflux_tdmpc").joinpath("worldflux.toml").read_text())
    presets = next(model for model in manifest["models"] if model["id"] == family)["presets"]
    if size not in presets:
        raise ConfigurationError(f"Unknown size: {size}. Available: {list(presets)}.{did_you_mean(size, presets)}")
    return dict(presets[size].get("config", {}))
