"""Everything that can be chosen about a TD-MPC2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from worldflux import Amount, Count, Field, NonNegative, Positive, WorldModelConfig
from worldflux.blocks import preset_values, split_modalities, unfit

ConfigT = TypeVar("ConfigT", bound="TDMPC2Config")
Rate = Annotated[float, Field(gt=0, le=1)]
Several = Annotated[int, Field(ge=2)]

IMAGE = (64, 64)
PIXELS_LEFT = 16  # of an image after the convolutions
TASK = "task"
BEHAVIOUR, PLANS = 0.2, 0.01  # where there is recorded data alone


@dataclass
class TDMPC2Config(WorldModelConfig):
    """Sizes, losses, planning and training defaults; the values here are ``tdmpc2:5m``, the official default.

    ``num_tasks`` above 1 learns several tasks: observations get a modality ``task`` (an integer below ``num_tasks``),
    every network an embedding of ``task_dim`` numbers; ``action_dims`` says how many actions each task has and
    ``episode_lengths`` how many decisions its episodes last. ``episodic`` learns where episodes end. ``discount``
    None takes the official rule, ``(n - 1) / n`` with n a fifth of the episode's length, cut to ``discount_min`` and
    ``discount_max``. ``horizon`` is that of training and of planning. ``prior`` None follows the actions: it becomes
    "gaussian" for continuous ones, "categorical" for discrete ones. ``vmax`` bounds rewards and values in symlog space.
    ``updates_per_step`` updates follow each decision, after ``seed_steps`` decisions at random (None takes the official
    rule: five of the longest episodes, but at least 1,000). ``reference`` always computes every head of the critics.
    ``behaviour_coef`` weighs a loss that the official program has not: how far the policy prior is from the recorded
    actions; ``plan_behaviour_coef`` how far plans are from the prior, in units of the values' scale. They keep a model
    that tries nothing out (``recorded``) from valuing what no data shows.
    ``compiled`` computes losses and plans with ``torch.compile`` (minutes at first, faster after);
    ``plan_mixed_precision`` plans in bfloat16 where autocast deems it safe. Images are 64 × 64; their encoder has
    ``latent_dim / 16`` channels. Raises ConfigurationError.

    Source: Hansen et al. 2024, table 8; nicklashansen/tdmpc2 ``config.yaml``.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {
        "hidden_dim": "mlp_dim", "num_q_networks": "num_q", "gamma": "discount", "target_q_tau": "tau",
    }  # fmt: skip
    model_type: str = "tdmpc2"
    model_name: str = "5m"
    obs_shape: tuple[Count, ...] = (39,)
    # sizes
    enc_dim: Count = 256
    mlp_dim: Count = 512
    latent_dim: Count = 512
    num_enc_layers: Count = 2
    num_q: Several = 5
    num_bins: Several = 101
    vmax: Positive = 10.0
    simnorm_dim: Count = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.01
    prior: Literal["gaussian", "categorical"] | None = None
    log_std_min: float = -10.0
    log_std_max: float = 2.0
    # tasks
    num_tasks: Count = 1
    task_dim: Count = 64
    action_dims: tuple[Count, ...] = ()
    episode_lengths: tuple[Count, ...] = ()
    episodic: bool = False
    episode_length: Count = 500
    discount: Rate | None = None
    discount_min: Rate = 0.95
    discount_max: Rate = 0.995
    # losses
    horizon: Count = 3
    rho: Rate = 0.5
    consistency_coef: NonNegative = 20.0
    reward_coef: NonNegative = 0.1
    value_coef: NonNegative = 0.1
    termination_coef: NonNegative = 1.0
    entropy_coef: NonNegative = 1e-4
    behaviour_coef: NonNegative = 0.0
    plan_behaviour_coef: NonNegative = 0.0
    tau: Rate = 0.01
    reference: bool = False
    compiled: bool = False
    # planning
    mpc: bool = True
    plan_mixed_precision: bool = False
    iterations: Count = 6
    num_samples: Count = 512
    num_elites: Count = 64
    num_pi_trajs: Amount = 24
    min_std: Positive = 0.05
    max_std: Positive = 2.0
    temperature: Positive = 0.5
    # training
    learning_rate: Positive = 3e-4
    enc_lr_scale: Positive = 0.3
    grad_clip: Positive = 20.0
    batch_size: Count = 256
    updates_per_step: Positive = 1.0
    num_envs: Count = 1
    seed_steps: Amount | None = None
    env_steps: Count = 500_000

    def __post_init__(self) -> None:
        if isinstance(self.num_tasks, int) and self.num_tasks > 1 and TASK not in self.observation_modalities:
            shown = self.observation_modalities or {"obs": {"shape": self.obs_shape}}
            self.observation_modalities = {**shown, TASK: {"kind": "other", "shape": (), "dtype": "int64"}}
        super().__post_init__()
        self._check_sizes()
        self._check_observations()
        self._check_actions()
        self._check_tasks()

    def _check_sizes(self) -> None:
        if self.latent_dim % self.simnorm_dim:
            raise self.error(f"latent_dim {self.latent_dim} must be divisible by simnorm_dim {self.simnorm_dim}")
        for low, high in (
            ("min_std", "max_std"), ("log_std_min", "log_std_max"), ("discount_min", "discount_max"),
            ("num_elites", "num_samples"),
        ):  # fmt: skip
            if getattr(self, low) > getattr(self, high):
                raise self.error(f"{low} {getattr(self, low)} must not exceed {high} {getattr(self, high)}")
        if self.num_pi_trajs >= self.num_samples:
            raise self.error(f"num_pi_trajs {self.num_pi_trajs} must be below num_samples {self.num_samples}")

    def _check_observations(self) -> None:
        if TASK in self.modalities and self.num_tasks == 1:
            raise self.error(f"observation {TASK!r} tells tasks apart: set num_tasks, or give it another name")
        if why := unfit(self.modalities, reserved=("reward", "continue", "latent"), layers=False, image_size=IMAGE):
            raise self.error(why)
        if self.image_names and self.latent_dim % PIXELS_LEFT:
            raise self.error(f"with images latent_dim must be divisible by {PIXELS_LEFT}, got {self.latent_dim}")

    def _check_actions(self) -> None:
        prior = {"continuous": "gaussian", "discrete": "categorical"}.get(self.action_type)
        if prior is None:
            raise self.error(f"TD-MPC2 takes continuous or discrete actions, not {self.action_type!r}")
        self.prior = self.prior or prior  # type: ignore[assignment]
        if prior != self.prior:
            raise self.error(
                f"the actions are {self.action_type}, but the policy prior is {self.prior!r}: set prior={prior!r}, "
                "or leave it out"
            )

    def _check_tasks(self) -> None:
        for name in ("action_dims", "episode_lengths"):
            if (count := len(getattr(self, name))) and self.num_tasks == 1:
                raise self.error(f"{name} is of several tasks, but num_tasks is 1: set num_tasks={count}")
            if count not in (0, self.num_tasks):
                raise self.error(f"{name} must have one entry for each of {self.num_tasks} tasks, got {count}")
        if max(self.action_dims, default=0) > self.action_dim:
            raise self.error(f"action_dims {self.action_dims} exceed action_dim {self.action_dim}, the largest task's")
        if self.num_tasks > 1 and self.episodic:
            raise self.error("episodic is for one task: episodes of several tasks end by their length alone")
        task = self.modalities.get(TASK)
        if task is not None and (task.shape, task.dtype) != ((), "int64"):
            raise self.error(
                f"observation {TASK!r} must be one int64 number below num_tasks, got {task.dtype} of shape {task.shape}"
            )

    @staticmethod
    def recorded(*, episode_length: int) -> dict[str, Any]:
        """The options of a model that learns from recorded data alone, whose episodes last so many decisions."""
        return {"episode_length": episode_length, "behaviour_coef": BEHAVIOUR, "plan_behaviour_coef": PLANS}

    @property
    def image_names(self) -> list[str]:
        """Image modalities, sorted."""
        return split_modalities(self.modalities)[0]

    @property
    def vector_names(self) -> list[str]:
        """The other modalities but the task, sorted."""
        return [name for name in split_modalities(self.modalities)[1] if name != TASK]

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
    def gamma(self) -> float:
        """The discount (of the first task), by its earlier name."""
        return self.discounts[0]

    @gamma.setter
    def gamma(self, value: float) -> None:
        self.discount = value

    @property
    def seed_rows(self) -> int:
        """Decisions at random before the first update."""
        longest = max(self.episode_lengths or (self.episode_length,))
        return max(1000, 5 * longest) if self.seed_steps is None else self.seed_steps

    @property
    def plan_iterations(self) -> int:
        """Iterations of one plan: two more for 20 actions and above."""
        return self.iterations + 2 * (self.action_dim >= 20)

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``5m``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({"model_name": size, **preset_values(__name__, "tdmpc2", size)}, overrides)
