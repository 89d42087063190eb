"""Everything that can be chosen about an MBPO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from worldflux import Amount, Count, Field, ModalityKind, NonNegative, Positive, Share, WorldModelConfig
from worldflux.blocks import preset_values, unfit

ConfigT = TypeVar("ConfigT", bound="MBPOConfig")
Rate = Annotated[float, Field(gt=0, le=1)]


@dataclass
class MBPOConfig(WorldModelConfig):
    """Sizes, losses and training defaults; the values here are ``mbpo:base``, which the paper's tasks share.

    ``num_nets`` networks of ``model_layers`` × ``model_units`` predict; the ``num_elites`` of them that err least on
    held-out rows (a share ``holdout`` of all) are asked. ``weight_decays`` has one entry for each of their layers.
    ``rollout_schedule`` ``(first, last, shortest, longest)``: rollouts have ``shortest`` steps up to environment step
    ``first``, ``longest`` from ``last`` on, and in between as a line says, rounded down. ``real_ratio`` is the share of
    real rows in what actor and critics learn from. ``target_entropy`` None is minus the number of actions.
    ``learning_rate`` is that of actor, critics and temperature, ``model_learning_rate`` of the ensemble.
    ``updates_per_step`` updates follow each environment step, after ``seed_steps`` of them at random. Raises
    ConfigurationError.

    Source: Janner et al. 2019, "When to Trust Your Model: Model-Based Policy Optimization", appendix C; jannerm/mbpo.
    """

    model_type: str = "mbpo"
    model_name: str = "base"
    obs_shape: tuple[Count, ...] = (17,)
    # the ensemble
    num_nets: Count = 7
    num_elites: Count = 5
    model_units: Count = 200
    model_layers: Count = 4
    weight_decays: tuple[NonNegative, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    bounds_coef: NonNegative = 0.01
    holdout: Annotated[float, Field(gt=0, lt=1)] = 0.2  # some of either: elites are chosen by held-out rows
    rollout_schedule: tuple[Amount, ...] = (20_000, 150_000, 1, 1)
    # actor and critics
    hidden_dim: Count = 256
    discount: Rate = 0.99
    tau: Rate = 0.005
    target_entropy: float | None = None
    initial_alpha: Positive = 1.0
    real_ratio: Share = 0.05
    # training
    grad_clip: Positive = 1e5  # against accidents only: sure networks have steep gradients
    learning_rate: Positive = 3e-4
    model_learning_rate: Positive = 1e-3
    batch_size: Count = 256
    updates_per_step: Positive = 20.0
    num_envs: Count = 1
    seed_steps: Amount = 5000
    env_steps: Count = 300_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_elites > self.num_nets:
            raise self.error(f"num_elites {self.num_elites} must not exceed num_nets {self.num_nets}")
        if len(self.weight_decays) != self.model_layers + 1:
            raise self.error(
                f"weight_decays must be {self.model_layers + 1} numbers, one for each of model_layers "
                f"({self.model_layers}) and one for the output layer, got {self.weight_decays}"
            )
        schedule = self.rollout_schedule
        if len(schedule) != 4 or schedule[0] > schedule[1] or min(schedule[2:]) < 1:
            raise self.error(
                "rollout_schedule must be (first env step, last env step, length at first, length at last), such as "
                f"(20000, 150000, 1, 15), got {schedule}"
            )
        self._check_spaces()

    def _check_spaces(self) -> None:
        for name, spec in self.modalities.items():
            if spec.kind not in (ModalityKind.VECTOR, ModalityKind.OTHER):
                raise self.error(
                    f"MBPO observes vectors; {name!r} is {spec.kind.value!r}: take a family that encodes it, such as "
                    "'dreamer:ci' or 'tdmpc2:ci'"
                )
        if why := unfit(self.modalities, reserved=("reward", "continue"), layers=False):
            raise self.error(why)
        if self.action_type != "continuous":
            others = "'dreamer:ci' or 'tdmpc2:ci'" if self.action_type == "discrete" else "'dreamer:ci'"
            raise self.error(f"MBPO takes continuous actions, not {self.action_type!r}: take {others}")

    def rollout_length(self, env_steps: float) -> int:
        """Steps of a rollout when so many environment steps were taken. Source: Janner et al. 2019, appendix C."""
        first, last, start, end = self.rollout_schedule
        if env_steps <= first:
            return start
        share = min((env_steps - first) / max(last - first, 1), 1.0)
        return int(share * (end - start) + start)

    @property
    def vector_names(self) -> list[str]:
        """Modalities in the order in which they are joined."""
        return sorted(self.modalities)

    @property
    def obs_size(self) -> int:
        """Numbers in all modalities together."""
        return sum(math.prod(spec.shape) for spec in self.modalities.values())

    @property
    def wanted_entropy(self) -> float:
        """The entropy the temperature is tuned for."""
        return -float(self.actions.dim) if self.target_entropy is None else float(self.target_entropy)

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``base``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({"model_name": size, **preset_values(__name__, "mbpo", size)}, overrides)
