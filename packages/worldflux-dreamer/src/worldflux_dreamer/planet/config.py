"""Everything that can be chosen about a PlaNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from worldflux import Amount, Count, Field, NonNegative, Positive, Share, WorldModelConfig
from worldflux.blocks import preset_values, unfit

ConfigT = TypeVar("ConfigT", bound="PlaNetConfig")

# Names that losses and predictions need for themselves.
_RESERVED = {"reward", "rew", "kl", "overshooting", "deter", "stoch"}


@dataclass
class PlaNetConfig(WorldModelConfig):
    """Sizes, losses, planning and training defaults; the values here are ``planet:base``, those of the paper.

    ``deter_dim`` recurrent units and ``stoch_dim`` Gaussian latents whose deviation is at least ``min_std``;
    ``hidden_dim`` in the recurrence and in the encoder of vectors; ``reward_layers`` of ``reward_units``; ``depth``
    channels after the first convolution, doubled by each. Images are 64 × 64, read with ``bits`` of their 8 bits.
    ``reward_head=False`` learns what is seen alone, from data without rewards, and cannot plan.
    ``overshooting`` holds predictions up to that many steps ahead to what was seen (1: one step ahead, as always).
    ``horizon``, ``num_samples``, ``num_elites``, ``iterations`` and ``exploration`` are the planner's.
    ``seed_steps`` environment steps are taken at random before the first update. Raises ConfigurationError.

    Source: Hafner et al. 2019, "Learning Latent Dynamics for Planning from Pixels", §5 and appendix A;
    google-research/planet ``configs.py``.
    """

    model_type: str = "planet"
    model_name: str = "base"
    # sizes
    deter_dim: Count = 200
    stoch_dim: Count = 30
    hidden_dim: Count = 200
    reward_units: Count = 300
    reward_layers: Count = 3
    encoder_layers: Count = 2
    decoder_layers: Count = 2
    depth: Count = 32
    bits: Annotated[int, Field(ge=1, le=8)] = 5
    min_std: Positive = 0.1
    # losses
    free_nats: NonNegative = 3.0
    kl_scale: NonNegative = 1.0
    observation_scale: NonNegative = 1.0
    reward_scale: NonNegative = 10.0
    reward_head: bool = True
    overshooting: Count = 1
    overshooting_scale: NonNegative = 1.0
    # planning
    horizon: Count = 12
    num_samples: Count = 1000
    num_elites: Count = 100
    iterations: Count = 10
    exploration: Share = 0.3
    # training
    learning_rate: Positive = 1e-3
    eps: Positive = 1e-4
    grad_clip: Positive = 1000.0
    batch_size: Count = 50
    sequence_length: Count = 50
    replay_ratio: Positive = 1000.0
    num_envs: Count = 1
    seed_steps: Amount = 1250
    env_steps: Count = 250_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_elites > self.num_samples:
            raise self.error(f"num_elites {self.num_elites} must not exceed num_samples {self.num_samples}")
        if self.overshooting > self.sequence_length:
            raise self.error(
                f"overshooting {self.overshooting} must not exceed sequence_length {self.sequence_length}: no row is "
                "further ahead"
            )
        if self.action_type not in ("continuous", "discrete", "multi"):
            raise self.error(f"PlaNet takes continuous, discrete or multi actions, not {self.action_type!r}")
        if why := unfit(self.modalities, reserved=_RESERVED, image_size=(64, 64)):
            raise self.error(why)

    @staticmethod
    def unrewarded(*, ends: bool) -> dict[str, Any]:
        """The options of a model of data without rewards; no PlaNet learns where episodes end."""
        return {"reward_head": False}

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``base``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({**preset_values(__name__, "planet", size), "model_name": size}, overrides)
