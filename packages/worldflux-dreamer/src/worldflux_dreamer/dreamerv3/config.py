"""Everything that can be chosen about a DreamerV3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from worldflux import Amount, Count, Field, NonNegative, Positive, Share, WorldModelConfig, did_you_mean
from worldflux.blocks import preset_values, split_modalities, unfit, unusable

ConfigT = TypeVar("ConfigT", bound="DreamerV3Config")
AtLeastTwo = Annotated[int, Field(ge=2)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Observed = Literal["auto", "mlp", "cnn"]
Percentage = Annotated[float, Field(ge=0, le=100)]

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
    ``actor_critic=False`` learns the world model alone; it may then predict no rewards (``reward_head=False``)
    and not whether an episode goes on (``continue_head=False``), for data that does not tell. ``encoder_type`` and
    ``decoder_type`` state what the observations must be: ``mlp`` (vectors only), ``cnn`` (at least one image), ``auto``
    (anything). ``reference`` trains by the plain implementation instead of the fast one; both give the same numbers.
    Raises ConfigurationError.

    Source: Hafner et al. 2023, table 4; danijar/dreamerv3 ``configs.yaml``.
    """

    earlier_names: ClassVar[Mapping[str, str]] = {
        "stoch_discrete": "stoch", "stoch_classes": "classes", "cnn_depth": "depth", "kl_free": "free_nats",
    }  # fmt: skip
    model_type: str = "dreamer"
    model_name: str = "size12m"
    # sizes
    deter_dim: Count = 2048
    hidden_dim: Count = 256
    stoch: Count = 32
    classes: AtLeastTwo = 16
    blocks: Count = 8
    units: Count = 256
    depth: Count = 16
    multipliers: Annotated[tuple[Count, ...], Field(min_length=1)] = (2, 3, 4, 4)
    kernel: Count = 5
    decoder_blocks: Count = 8
    encoder_type: Observed = "auto"
    decoder_type: Observed = "auto"
    encoder_layers: Count = 3
    decoder_layers: Count = 3
    dynamics_layers: Count = 1
    posterior_layers: Count = 1
    prior_layers: Count = 2
    reward_layers: Count = 1
    continue_layers: Count = 1
    policy_layers: Count = 3
    value_layers: Count = 3
    bins: AtLeastTwo = 255
    # world model
    unimix: Share = 0.01
    free_nats: NonNegative = 1.0
    reward_head: bool = True
    continue_head: bool = True
    loss_scales: dict[str, NonNegative] = field(default_factory=dict)
    # actor and critic
    actor_critic: bool = True
    imagination: Count = 15
    imagine_last: Amount = 0
    horizon: Count = 333
    discounted_continue: bool = True
    return_lambda: Share = 0.95
    entropy_scale: NonNegative = 3e-4
    slow_scale: NonNegative = 1.0
    slow_rate: Share = 0.02
    slow_target: bool = False
    min_std: NonNegative = 0.1
    max_std: NonNegative = 1.0
    policy_outscale: NonNegative = 0.01
    return_rate: Share = 0.01
    return_limit: Positive = 1.0
    return_low: Percentage = 5.0
    return_high: Percentage = 95.0
    # training
    learning_rate: Positive = 4e-5
    grad_clip: Positive = 1e9  # clipping is per tensor, by agc; lower this to bound the global norm, too
    agc: NonNegative = 0.3
    beta1: Beta = 0.9
    beta2: Beta = 0.999
    eps: NonNegative = 1e-20
    warmup: Amount = 1000
    scheduler: Literal["none", "constant", "linear", "cosine"] = "constant"
    batch_size: Count = 16
    sequence_length: AtLeastTwo = 64
    replay_ratio: Positive = 512.0
    num_envs: Count = 16
    env_steps: Count = 500_000
    reference: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if why := self._impossible():
            raise self.error(why)

    def _impossible(self) -> str:
        """Why values that are fine alone do not go together; nothing if they do."""
        if self.deter_dim % self.blocks:
            return f"deter_dim {self.deter_dim} must be divisible by blocks {self.blocks}"
        if not self.kernel % 2:
            return f"kernel must be odd so that images keep their size, got {self.kernel}"
        if self.min_std >= self.max_std:
            return f"min_std {self.min_std} must be below max_std {self.max_std}"
        if self.return_low >= self.return_high:
            return f"return percentiles must grow: {self.return_low}, {self.return_high}"
        if self.action_type not in ("continuous", "discrete", "multi"):
            return f"DreamerV3 takes continuous, discrete or multi actions, not {self.action_type!r}"
        for part in self.actions.leaves():
            if why := unusable(part.name):
                return f"action part {part.name!r} needs another name: {why}"
        if self.actor_critic and not (self.reward_head and self.continue_head):
            lacks = "reward_head=False" if self.continue_head else "continue_head=False"
            return f"actor and critic learn from predicted rewards and ends: {lacks} needs actor_critic=False"
        known = [*LOSS_SCALES, *self.observation_modalities]
        for name in self.loss_scales:
            if name not in known:
                return f"unknown loss scale {name!r}, expected one of {known}.{did_you_mean(name, known)}"
        return unfit(self.modalities, reserved=_RESERVED) or self._unseen() or self._uneven()

    def _unseen(self) -> str:
        """Why the observations are not what encoder and decoder are said to take."""
        images = self.image_names
        for option in ("encoder_type", "decoder_type"):
            kind = getattr(self, option)
            if kind == "mlp" and images:
                return f"{option}='mlp' takes vectors only, but {images[0]!r} is an image: use 'auto'"
            if kind == "cnn" and not images:
                return f"{option}='cnn' needs an image observation [C, H, W]: use 'auto' or 'mlp' for vectors"
        return ""

    def _uneven(self) -> str:
        """Why images cannot be halved and doubled by layers of these sizes."""
        sizes = {name: self.modalities[name].shape[1:] for name in self.image_names}
        if not sizes:
            return ""
        if len(set(sizes.values())) > 1:
            return f"images must have one size, got {sizes}: resize them (image_size, --image-size)"
        step, (rows, cols) = 2 ** len(self.multipliers), next(iter(sizes.values()))
        if rows % step or cols % step:
            near = "x".join(str(max(step, round(size / step) * step)) for size in (rows, cols))
            halvings = len(self.multipliers)
            wanted = f"images must be divisible by {step} ({halvings} halvings)"
            return f"{wanted}, got {rows}x{cols}: use {near} (image_size, --image-size: squares)"
        if self.channels[-1] % self.decoder_blocks or self.deter_dim % self.decoder_blocks:
            return (
                f"depth * {self.multipliers[-1]} = {self.channels[-1]} and deter_dim {self.deter_dim} must be "
                f"divisible by decoder_blocks {self.decoder_blocks}"
            )
        return ""

    @property
    def image_names(self) -> list[str]:
        """Image modalities, sorted."""
        return split_modalities(self.modalities)[0]

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
    def told(self) -> list[str]:
        """What is predicted of arriving beside what is seen: ``reward`` and ``continue``, where there are heads."""
        return ["reward"] * self.reward_head + ["continue"] * self.continue_head

    @property
    def stoch_dim(self) -> int:
        """Width of the flattened latents."""
        return self.stoch * self.classes

    @property
    def discount(self) -> float:
        """The discount per step."""
        return 1 - 1 / self.horizon

    def loss_scale(self, name: str) -> float:
        """The scale of a loss; an observation's own scale, else ``rec``."""
        scales = {**LOSS_SCALES, **self.loss_scales}
        return float(scales.get(name, scales["rec"]))

    @staticmethod
    def unrewarded(*, ends: bool) -> dict[str, Any]:
        """The options of a model of data without rewards, in which some episode ends in truth or none does."""
        return {"actor_critic": False, "reward_head": False} | ({} if ends else {"continue_head": False})

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``size12m``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({**preset_values(__name__, "dreamer", size), "model_name": size}, overrides)
