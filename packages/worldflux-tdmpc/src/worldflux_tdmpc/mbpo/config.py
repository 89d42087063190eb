"""Everything that can be chosen about an MBPO."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind

from ..config import preset_values

ConfigT = TypeVar("ConfigT", bound="MBPOConfig")

# Names that states and predictions need for themselves.
_RESERVED = ("reward", "continue")


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
    obs_shape: tuple[int, ...] = (17,)
    # the ensemble
    num_nets: int = 7
    num_elites: int = 5
    model_units: int = 200
    model_layers: int = 4
    weight_decays: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    bounds_coef: float = 0.01
    holdout: float = 0.2
    rollout_schedule: tuple[int, ...] = (20_000, 150_000, 1, 1)
    # actor and critics
    hidden_dim: int = 256
    discount: float = 0.99
    tau: float = 0.005
    target_entropy: float | None = None
    initial_alpha: float = 1.0
    real_ratio: float = 0.05
    # training
    grad_clip: float = 1e5  # against accidents only: sure networks have steep gradients
    learning_rate: float = 3e-4
    model_learning_rate: float = 1e-3
    batch_size: int = 256
    updates_per_step: float = 20.0
    num_envs: int = 1
    seed_steps: int = 5000
    env_steps: int = 300_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.weight_decays = tuple(float(value) for value in self.weight_decays)  # JSON knows no tuples
        self._check_numbers()
        self._check_schedule()
        self._check_spaces()

    def _check_numbers(self) -> None:
        positive = "num_nets num_elites model_units model_layers hidden_dim initial_alpha model_learning_rate"
        positive += " batch_size updates_per_step num_envs env_steps"
        for name in positive.split():
            if not 0 < getattr(self, name) < math.inf:
                raise self._error(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("bounds_coef", "seed_steps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise self._error(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("discount", "tau"):
            if not 0 < getattr(self, name) <= 1:
                raise self._error(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        if not 0 <= self.real_ratio <= 1:
            raise self._error(f"real_ratio must lie in [0, 1], got {self.real_ratio}")
        if not 0 < self.holdout < 1:
            raise self._error(f"holdout must lie in (0, 1), got {self.holdout}: elites are chosen by held-out rows")
        if self.num_elites > self.num_nets:
            raise self._error(f"num_elites {self.num_elites} must not exceed num_nets {self.num_nets}")
        decays, layers = self.weight_decays, self.model_layers + 1
        if len(decays) != layers or not all(0 <= value < math.inf for value in decays):
            raise self._error(
                f"weight_decays must be {layers} numbers of at least 0, one for each of model_layers "
                f"({self.model_layers}) and one for the output layer, got {decays}"
            )
        if not math.isfinite(self.target_entropy or 0):
            raise self._error(f"target_entropy must be finite, got {self.target_entropy}")

    def _check_schedule(self) -> None:
        values = self.rollout_schedule
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in values)
        if len(values) != 4 or not whole or not 0 <= values[0] <= values[1] or min(values[2:]) < 1:
            raise self._error(
                "rollout_schedule must be (first env step, last env step, length at first, length at last), such as "
                f"(20000, 150000, 1, 15), got {values}"
            )

    def _check_spaces(self) -> None:
        for name, spec in self.modalities.items():
            if name in _RESERVED or "." in name:
                raise self._error(f"observation {name!r} needs another name: no dots, none of {list(_RESERVED)}")
            if spec.kind not in (ModalityKind.VECTOR, ModalityKind.OTHER):
                raise self._error(
                    f"MBPO observes vectors; {name!r} is {spec.kind.value!r}: take a family that encodes it, such as "
                    "'dreamer:ci' or 'tdmpc2:ci'"
                )
        if self.action_type != "continuous":
            raise self._error(
                f"MBPO takes continuous actions, not {self.action_type!r}: take 'dreamer:ci', or 'tdmpc2:ci' with "
                "prior='categorical'"
            )

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, config_name="MBPOConfig")

    def rollout_length(self, env_steps: float) -> int:
        """Steps of a rollout when so many environment steps were taken. Source: Janner et al. 2019, appendix C."""
        first, last, start, end = self.rollout_schedule
        if env_steps <= first:
            return start
        share = min((env_steps - first) / max(last - first, 1), 1.0)
        return int(share * (end - start) + start)

    @property
    def names(self) -> list[str]:
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
        return cls.from_dict({"model_name": size, **preset_values("mbpo", size), **overrides})
