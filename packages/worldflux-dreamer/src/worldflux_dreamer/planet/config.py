"""Everything that can be chosen about a PlaNet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind

from ..config import preset_values, unusable

ConfigT = TypeVar("ConfigT", bound="PlaNetConfig")

IMAGE = (64, 64)
# Names that losses and predictions need for themselves.
_RESERVED = {"reward", "rew", "kl", "overshooting", "deter", "stoch"}


@dataclass
class PlaNetConfig(WorldModelConfig):
    """Sizes, losses, planning and training defaults; the values here are ``planet:base``, those of the paper.

    ``deter_dim`` recurrent units and ``stoch_dim`` Gaussian latents whose deviation is at least ``min_std``;
    ``hidden_dim`` in the recurrence and in the encoder of vectors; ``reward_layers`` of ``reward_units``; ``depth``
    channels after the first convolution, doubled by each. Images are 64 × 64, read with ``bits`` of their 8 bits.
    ``overshooting`` holds predictions up to that many steps ahead to what was seen (1: one step ahead, as always).
    ``horizon``, ``num_samples``, ``num_elites``, ``iterations`` and ``exploration`` are the planner's.
    ``seed_steps`` rows are collected at random before the first update. Raises ConfigurationError.

    Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels", §5 and appendix A;
    google-research/planet ``configs.py``.
    """

    model_type: str = "planet"
    model_name: str = "base"
    # sizes
    deter_dim: int = 200
    stoch_dim: int = 30
    hidden_dim: int = 200
    reward_units: int = 300
    reward_layers: int = 3
    encoder_layers: int = 2
    decoder_layers: int = 2
    depth: int = 32
    bits: int = 5
    min_std: float = 0.1
    # losses
    free_nats: float = 3.0
    kl_scale: float = 1.0
    observation_scale: float = 1.0
    reward_scale: float = 10.0
    overshooting: int = 1
    overshooting_scale: float = 1.0
    # planning
    horizon: int = 12
    num_samples: int = 1000
    num_elites: int = 100
    iterations: int = 10
    exploration: float = 0.3
    # training
    learning_rate: float = 1e-3
    eps: float = 1e-4
    grad_clip: float = 1000.0
    batch_size: int = 50
    sequence_length: int = 50
    replay_ratio: float = 1000.0
    num_envs: int = 1
    seed_steps: int = 1250
    env_steps: int = 250_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers()
        self._check_observations()
        if self.action_type not in ("continuous", "discrete", "multi"):
            raise self._error(f"PlaNet takes continuous, discrete or multi actions, not {self.action_type!r}")

    def _check_numbers(self) -> None:
        positive = "deter_dim stoch_dim hidden_dim reward_units reward_layers encoder_layers decoder_layers depth"
        positive += " min_std overshooting horizon num_samples num_elites iterations eps batch_size sequence_length"
        positive += " replay_ratio num_envs env_steps"
        for name in positive.split():
            if not 0 < getattr(self, name) < math.inf:
                raise self._error(f"{name} must be positive, got {getattr(self, name)}")
        for name in "free_nats kl_scale observation_scale reward_scale overshooting_scale seed_steps".split():
            if not 0 <= getattr(self, name) < math.inf:
                raise self._error(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 1 <= self.bits <= 8:
            raise self._error(f"bits must lie in 1 to 8, got {self.bits}")
        if not 0 <= self.exploration <= 1:
            raise self._error(f"exploration must lie in [0, 1], got {self.exploration}")
        if self.num_elites > self.num_samples:
            raise self._error(f"num_elites {self.num_elites} must not exceed num_samples {self.num_samples}")
        if self.overshooting > self.sequence_length:
            raise self._error(
                f"overshooting {self.overshooting} must not exceed sequence_length {self.sequence_length}: no row is "
                "further ahead"
            )

    def _check_observations(self) -> None:
        for name, spec in self.modalities.items():
            if why := unusable(name, _RESERVED):
                raise self._error(f"observation {name!r} needs another name: {why}")
            if spec.kind not in (ModalityKind.IMAGE, ModalityKind.VECTOR, ModalityKind.OTHER):
                raise self._error(f"PlaNet observes images and vectors; {name!r} is {spec.kind.value!r}")
            if name in self.image_names and spec.shape[1:] != IMAGE:
                raise self._error(
                    f"image {name!r} must have 64x64 pixels, got {spec.shape[1]}x{spec.shape[2]}: resize it in the "
                    "environment (image_size=64)"
                )

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, config_name="PlaNetConfig")

    @property
    def image_names(self) -> list[str]:
        """Image modalities, sorted."""
        return sorted(name for name, spec in self.modalities.items() if spec.kind is ModalityKind.IMAGE)

    @property
    def vector_names(self) -> list[str]:
        """The other modalities, sorted."""
        return sorted(set(self.modalities) - set(self.image_names))

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``base``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({**preset_values("planet", size), "model_name": size, **overrides})
