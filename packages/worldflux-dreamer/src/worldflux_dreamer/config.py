"""Everything that can be chosen about a DreamerV3."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, ClassVar, TypeVar

from torch import nn

from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import ConfigurationError, did_you_mean
from worldflux.core.spec import ModalityKind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ConfigT = TypeVar("ConfigT", bound="DreamerV3Config")

LOSS_SCALES = {"rec": 1.0, "rew": 1.0, "con": 1.0, "dyn": 1.0, "rep": 0.1, "policy": 1.0, "value": 1.0, "repval": 0.3}
# Names that losses and predictions need for themselves.
_RESERVED = {*LOSS_SCALES, "reward", "continue", "deter", "stoch"}


@dataclass
class DreamerV3Config(WorldModelConfig):
    """Sizes, losses and training defaults; the values here are ``dreamerv3:size12m``.

    Latents: ``stoch`` categoricals of ``classes`` classes; ``deter_dim`` recurrent units in ``blocks`` blocks;
    ``hidden_dim`` inside the recurrence; ``units`` in encoder, decoder and heads; image channels are ``depth`` times
    ``multipliers``, one halving of the image each. ``loss_scales`` overrides single scales (``rec`` is every
    observation's). ``horizon`` sets the discount ``1 - 1/horizon``; ``imagination`` is the number of imagined steps,
    started from the ``imagine_last`` last rows of each sequence (0: all).
    ``actor_critic=False`` learns the world model alone. ``encoder_type`` and ``decoder_type`` state what the
    observations must be: ``mlp`` (vectors only), ``cnn`` (at least one image), ``auto`` (anything). ``reference``
    trains by the plain implementation instead of the fast one; both give the same numbers. Raises ConfigurationError.

    Source: Hafner et al. 2023, table 4; danijar/dreamerv3 ``configs.yaml``.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {
        "stoch_discrete": "stoch", "stoch_classes": "classes", "cnn_depth": "depth", "kl_free": "free_nats",
    }  # fmt: skip
    model_type: str = "dreamer"
    model_name: str = "size12m"
    # sizes
    deter_dim: int = 2048
    hidden_dim: int = 256
    stoch: int = 32
    classes: int = 16
    blocks: int = 8
    units: int = 256
    depth: int = 16
    multipliers: tuple[int, ...] = (2, 3, 4, 4)
    kernel: int = 5
    decoder_blocks: int = 8
    encoder_type: str = "auto"
    decoder_type: str = "auto"
    encoder_layers: int = 3
    decoder_layers: int = 3
    dynamics_layers: int = 1
    posterior_layers: int = 1
    prior_layers: int = 2
    reward_layers: int = 1
    continue_layers: int = 1
    policy_layers: int = 3
    value_layers: int = 3
    bins: int = 255
    # world model
    unimix: float = 0.01
    free_nats: float = 1.0
    loss_scales: dict[str, Any] = field(default_factory=dict)
    # actor and critic
    actor_critic: bool = True
    imagination: int = 15
    imagine_last: int = 0
    horizon: int = 333
    discounted_continue: bool = True
    return_lambda: float = 0.95
    entropy_scale: float = 3e-4
    slow_scale: float = 1.0
    slow_rate: float = 0.02
    slow_target: bool = False
    min_std: float = 0.1
    max_std: float = 1.0
    policy_outscale: float = 0.01
    return_rate: float = 0.01
    return_limit: float = 1.0
    return_low: float = 5.0
    return_high: float = 95.0
    # training
    learning_rate: float = 4e-5
    grad_clip: float = 1e9  # clipping is per tensor, by agc; lower this to bound the global norm, too
    agc: float = 0.3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-20
    warmup: int = 1000
    scheduler: str = "constant"
    batch_size: int = 16
    sequence_length: int = 64
    replay_ratio: float = 512.0
    num_envs: int = 16
    env_steps: int = 500_000
    reference: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_numbers()
        self._check_observations()
        if self.action_type not in ("continuous", "discrete", "multi"):
            raise self._error(f"DreamerV3 takes continuous, discrete or multi actions, not {self.action_type!r}")
        for part in self.actions.leaves():
            if why := unusable(part.name):
                raise self._error(f"action part {part.name!r} needs another name: {why}")
        for name, value in self.loss_scales.items():
            known = [*LOSS_SCALES, *self.observation_modalities]
            if name not in known:
                raise self._error(f"unknown loss scale {name!r}, expected one of {known}.{did_you_mean(name, known)}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise self._error(f"loss scale {name!r} must be a number of at least 0, got {value!r}")

    def _check_numbers(self) -> None:
        positive = "deter_dim hidden_dim stoch blocks units depth kernel decoder_blocks dynamics_layers prior_layers"
        positive += " posterior_layers encoder_layers decoder_layers policy_layers value_layers reward_layers"
        positive += " continue_layers imagination batch_size num_envs env_steps horizon return_limit replay_ratio"
        for name in positive.split():
            if getattr(self, name) <= 0:
                raise self._error(f"{name} must be positive, got {getattr(self, name)}")
        at_least_two = {"classes": self.classes, "bins": self.bins, "sequence_length": self.sequence_length}
        for name, value in at_least_two.items():
            if value < 2:
                raise self._error(f"{name} must be at least 2, got {value}")
        for name in ("unimix", "return_lambda", "slow_rate", "return_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise self._error(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("free_nats", "imagine_last", "entropy_scale", "slow_scale", "agc", "warmup", "policy_outscale"):
            if getattr(self, name) < 0:
                raise self._error(f"{name} must not be negative, got {getattr(self, name)}")
        if self.deter_dim % self.blocks:
            raise self._error(f"deter_dim {self.deter_dim} must be divisible by blocks {self.blocks}")
        if not self.kernel % 2:
            raise self._error(f"kernel must be odd so that images keep their size, got {self.kernel}")
        if not 0 <= self.min_std < self.max_std:
            raise self._error(f"min_std {self.min_std} must be below max_std {self.max_std}")
        if not 0 <= self.return_low < self.return_high <= 100:
            raise self._error(f"return percentiles must grow: {self.return_low}, {self.return_high}")

    def _check_observations(self) -> None:
        for name, spec in self.modalities.items():
            if why := unusable(name, _RESERVED):
                raise self._error(f"observation {name!r} needs another name: {why}")
            if spec.kind not in (ModalityKind.IMAGE, ModalityKind.VECTOR, ModalityKind.OTHER):
                raise self._error(f"DreamerV3 observes images and vectors; {name!r} is {spec.kind.value!r}")
        for option in ("encoder_type", "decoder_type"):
            kind = getattr(self, option)
            if kind not in ("auto", "mlp", "cnn"):
                near = did_you_mean(kind, ("auto", "mlp", "cnn"))
                raise self._error(f"{option} must be 'auto', 'mlp' or 'cnn', got {kind!r}.{near}")
            if kind == "mlp" and self.image_names:
                raise self._error(
                    f"{option}='mlp' takes vectors only, but {self.image_names[0]!r} is an image: use 'auto'"
                )
            if kind == "cnn" and not self.image_names:
                raise self._error(
                    f"{option}='cnn' needs an image observation [C, H, W]: use 'auto' or 'mlp' for vectors"
                )
        if self.image_names:
            self._check_images()

    def _check_images(self) -> None:
        sizes = {name: self.modalities[name].shape[1:] for name in self.image_names}
        if len(set(sizes.values())) > 1:
            raise self._error(f"images must have one size, got {sizes}: resize them in the environment")
        if not self.multipliers or min(self.multipliers) <= 0:
            raise self._error(f"multipliers must be positive, got {self.multipliers}")
        step, (rows, cols) = 2 ** len(self.multipliers), next(iter(sizes.values()))
        if rows % step or cols % step:
            near = tuple(max(step, round(size / step) * step) for size in (rows, cols))
            raise self._error(
                f"images must be divisible by {step} ({len(self.multipliers)} halvings), got {rows}x{cols}: "
                f"use {near[0]}x{near[1]}"
            )
        if self.channels[-1] % self.decoder_blocks or self.deter_dim % self.decoder_blocks:
            raise self._error(
                f"depth * {self.multipliers[-1]} = {self.channels[-1]} and deter_dim {self.deter_dim} must be "
                f"divisible by decoder_blocks {self.decoder_blocks}"
            )

    def _error(self, message: str) -> ConfigurationError:
        return ConfigurationError(message, config_name="DreamerV3Config")

    @property
    def image_names(self) -> list[str]:
        """Image modalities, sorted."""
        return sorted(name for name, spec in self.modalities.items() if spec.kind is ModalityKind.IMAGE)

    @property
    def vector_names(self) -> list[str]:
        """The other modalities, sorted."""
        return sorted(set(self.modalities) - set(self.image_names))

    @property
    def channels(self) -> list[int]:
        """Channels after each convolution of the encoder."""
        return [self.depth * multiplier for multiplier in self.multipliers]

    @property
    def min_resolution(self) -> tuple[int, int]:
        """Height and width of the smallest map."""
        _, rows, cols = self.modalities[self.image_names[0]].shape
        return rows // 2 ** len(self.multipliers), cols // 2 ** len(self.multipliers)

    @property
    def stoch_dim(self) -> int:
        """Width of the flattened latents."""
        return self.stoch * self.classes

    @property
    def stoch_discrete(self) -> int:
        """The number of latents, by its earlier name."""
        return self.stoch

    @property
    def stoch_classes(self) -> int:
        """The number of classes, by its earlier name."""
        return self.classes

    @property
    def discount(self) -> float:
        """The discount per step."""
        return 1 - 1 / self.horizon

    def loss_scale(self, name: str) -> float:
        """The scale of a loss; an observation's own scale, else ``rec``."""
        scales = {**LOSS_SCALES, **self.loss_scales}
        return float(scales.get(name, scales["rec"]))

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``size12m``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({**preset_values("dreamer", size), "model_name": size, **overrides})


def preset_values(family: str, size: str) -> dict[str, Any]:
    """The config values of a preset of this package. Raises ConfigurationError naming the known sizes."""
    manifest = tomllib.loads(resources.files("worldflux_dreamer").joinpath("worldflux.toml").read_text())
    presets = next(model for model in manifest["models"] if model["id"] == family)["presets"]
    if size not in presets:
        raise ConfigurationError(f"Unknown size: {size}. Available: {list(presets)}.{did_you_mean(size, presets)}")
    return dict(presets[size].get("config", {}))


def unusable(name: str, reserved: Collection[str] = ()) -> str:
    """Why something that has layers of its own cannot be called ``name``; nothing if it can."""
    if name in reserved or "." in name:
        return "no dots" + (f", none of {sorted(reserved)}" if reserved else "")
    return f"torch's modules have a {name!r} of theirs" if hasattr(nn.ModuleDict, name) else ""
