"""Everything that can be chosen about a JEPA."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from worldflux import Amount, Count, Field, NonNegative, Positive, WorldModelConfig
from worldflux.blocks import preset_values, split_modalities, unfit

from .collapse import must_collapse

ConfigT = TypeVar("ConfigT", bound="JEPAConfig")
Dropped = Annotated[float, Field(ge=0, lt=1)]
Decay = Annotated[float, Field(ge=0, le=1)]
RESERVED = ("latent", "past", "past_actions", "length", "reward", "continue")


@dataclass
class JEPAConfig(WorldModelConfig):
    """Sizes, losses and training defaults; the values here are ``jepa:base``, LeWM's.

    **Observations.** ``encoder`` reads the images (their channels together): ``"cnn"`` (a convolution of stride 2 for
    each of ``channels``), ``"impala"`` (a residual stage for each), ``"vit"``; ``"features"`` takes what an encoder
    made before, an observation ``[F]`` or ``[N, F]``; ``"external"`` builds none: put one into the slot
    ``observation_encoder`` that gives ``tokens`` latents of ``latent_dim``. Pixels become
    ``(x / 255 - image_mean) / image_std``. ``patches`` keeps one latent a patch (of ``"vit"``), else there is one.
    Vectors become ``vector_units`` numbers, which join the image's before the projector, or with several latents each
    latent as they are. ``position_grid`` is the side of the grid of the ViT's positions (0: the image's own); other
    images interpolate them.

    **Latent.** ``projector``: ``"mlp"`` (linear, batch norm, GELU, linear; hidden ``projector_units``), ``"linear"`` or
    ``"none"``; then ``latent_norm``, a ``"batch"`` norm without weights or a ``"layer"`` norm.

    **Predictor.** It sees the last ``history`` rows. ``"mlp"`` adds to the latent what ``depth`` layers of ``units``
    say, ``"gru"`` is a cell whose hidden state is the latent, ``"adaln"`` a causal transformer whose layers the action
    modulates, ``"concat"`` one over patches with the action (``action_units``) beside each. Transformers have ``depth``
    blocks of ``heads`` times ``head_dim`` and ``mlp_units``, inside ``units`` wide (0: as wide as what comes in).
    ``head_units`` is the hidden size of an MLP with batch norm behind it (0: none), which of ``"adaln"`` reads
    ``head_inputs`` numbers (0: ``units``).

    **Learning.** ``target`` says what a prediction is compared with: an average of the encoder (``"ema"``,
    ``ema_decay``), the encoder without (``"stopgrad"``) or with gradient (``"online"``), or an encoder that never
    learns (``"frozen"``). Predictions go ``rollout_steps`` rows ahead. The weights of regularisers and additions are
    those of ``LatentObjective``. ``std_over_time`` and ``cov_over_time`` weigh VICReg's terms of every clip over its
    rows (a deviation below ``margin_over_time`` costs): without them what never changes in an episode, such as a wall
    that is elsewhere in each, may fill the latent. ``normalise_actions`` standardises actions by what training has
    shown; ``action_mean`` and ``action_std`` do it by given numbers. Raises ConfigurationError.

    **Amortised planning.** With ``amortised`` a head of ``amortised_units`` learns which actions lead from a latent to
    one up to ``amortised_steps`` rows later; nothing else learns from it. Clips are as long as that then.

    Source: Maes et al. 2026 (LeWM), arXiv 2603.19312; Zhou et al. 2024 (DINO-WM); Sobal et al. 2025 (PLDM).
    """

    model_type: str = "jepa"
    model_name: str = "base"
    obs_shape: tuple[Count, ...] = (3, 224, 224)
    action_dim: int = 2
    # observations
    encoder: Literal["cnn", "impala", "vit", "features", "external"] = "vit"
    channels: tuple[Count, ...] = (32, 64, 64)
    patch_size: Count = 14
    patches: bool = False
    tokens: Count = 1
    position_grid: Amount = 0
    encoder_units: Count = 192
    encoder_depth: Count = 12
    encoder_heads: Count = 3
    encoder_mlp: Count = 768
    vector_units: Count = 192
    image_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    image_std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    # latent
    latent_dim: Count = 192
    projector: Literal["mlp", "linear", "none"] = "mlp"
    projector_units: Count = 2048
    latent_norm: Literal["none", "batch", "layer"] = "none"
    # predictor
    predictor: Literal["mlp", "gru", "adaln", "concat"] = "adaln"
    history: Count = 3
    units: Amount = 0
    depth: Count = 6
    heads: Count = 16
    head_dim: Count = 64
    mlp_units: Count = 2048
    head_units: Amount = 2048
    head_inputs: Amount = 0
    action_units: Count = 10
    dropout: Dropped = 0.1
    normalise_actions: bool = False
    action_mean: tuple[float, ...] = ()
    action_std: tuple[Positive, ...] = ()
    # learning
    distance: Literal["mse", "l1", "smooth_l1", "cosine"] = "mse"
    target: Literal["ema", "stopgrad", "online", "frozen"] = "online"
    ema_decay: Decay = 0.996
    rollout_steps: Count = 1
    regulariser: Literal["none", "vicreg", "sigreg"] = "sigreg"
    sigreg_weight: NonNegative = 0.09
    directions: Count = 1024
    knots: Annotated[int, Field(ge=2)] = 17
    std_weight: NonNegative = 1.0
    cov_weight: NonNegative = 1.0
    std_over_time: NonNegative = 0.0
    cov_over_time: NonNegative = 0.0
    margin_over_time: Positive = 1.0
    time_similarity: NonNegative = 0.0
    inverse_dynamics: NonNegative = 0.0
    straightening: NonNegative = 0.0
    # amortised planning
    amortised: bool = False
    amortised_steps: Count = 8
    amortised_units: Count = 256
    # training
    learning_rate: Positive = 5e-5
    weight_decay: NonNegative = 1e-3
    grad_clip: Positive = 1.0
    batch_size: Count = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_observations()
        self._check_latent()
        self._check_predictor()
        self._check_actions()
        weights = {
            "sigreg_weight": self.sigreg_weight,
            "std_weight": self.std_weight,
            "std_over_time": self.std_over_time,
            "time_similarity": self.time_similarity,
            "inverse_dynamics": self.inverse_dynamics,
        }
        if why := must_collapse(self.target, self.regulariser, **weights):
            raise self.error(why)

    def _check_observations(self) -> None:
        if why := unfit(self.modalities, reserved=RESERVED, layers=False):
            raise self.error(why)
        sizes = {self.modalities[name].shape[1:] for name in self.image_names}
        if len(sizes) > 1:
            raise self.error(f"images must have one size, got {sorted(sizes)}: resize them in the environment")
        for name in ("image_mean", "image_std"):
            count = len(getattr(self, name))
            if count == 0 or (self.image_names and self.image_channels % count):
                raise self.error(f"{name} has {count} numbers for {self.image_channels} channels: give 1, or one each")
        if self.encoder == "features":
            self._check_features()
        elif self.image_names and self.encoder != "external":
            self._check_image(*sizes.pop())

    def _check_image(self, height: int, width: int) -> None:
        if self.encoder == "vit" and (height % self.patch_size or width % self.patch_size):
            raise self.error(f"images of {height}x{width} pixels are no whole patches of {self.patch_size}")
        if self.encoder == "vit" and self.encoder_units % self.encoder_heads:
            raise self.error(
                f"encoder_units {self.encoder_units} must be divisible by {self.encoder_heads} encoder_heads"
            )
        least = 2 ** len(self.channels)
        if self.encoder in ("cnn", "impala") and min(height, width) < least:
            raise self.error(
                f"images of {height}x{width} pixels vanish in {len(self.channels)} halvings: at least {least} "
                "a side, or fewer channels"
            )

    def _check_features(self) -> None:
        ranks = {name: len(self.modalities[name].shape) for name in self.feature_names}
        if self.image_names or len(ranks) != 1 or next(iter(ranks.values())) not in (1, 2):
            raise self.error(
                f"encoder='features' takes one observation [F] or [N, F] called 'features', and vectors; got "
                f"{ {name: spec.shape for name, spec in self.modalities.items()} }"
            )

    def _check_latent(self) -> None:
        if self.patches and self.encoder != "vit":
            raise self.error(f"patches are those of encoder='vit', not of {self.encoder!r}: leave patches out")
        if self.patches and not self.image_names:
            raise self.error("patches are an image's, and there is no image to observe")
        if self.tokens != 1 and self.encoder != "external":
            raise self.error(f"tokens={self.tokens} is for encoder='external'; of {self.encoder!r} they are counted")
        if self.num_tokens > 1 and self.vector_names and self.vector_units >= self.latent_dim:
            raise self.error(
                f"latent_dim {self.latent_dim} must be larger than vector_units {self.vector_units}, which each latent "
                "ends with"
            )
        if self.projector == "none" and self.encoder != "external" and self.feature_dim != self.image_dim:
            raise self.error(
                f"projector='none' needs latent_dim={self.feature_dim + self.latent_dim - self.image_dim}, as wide "
                f"as what is encoded, got {self.latent_dim}"
            )

    def _check_predictor(self) -> None:
        if self.predictor == "gru" and self.history != 1:
            raise self.error(f"predictor='gru' remembers in its hidden state: set history=1, got {self.history}")
        if self.predictor == "mlp" and not self.units:
            raise self.error("predictor='mlp' needs units, the width of its layers")
        if self.head_inputs and (self.predictor != "adaln" or not self.head_units):
            raise self.error("head_inputs is of the head behind predictor='adaln': set head_units, or leave it out")

    def _check_actions(self) -> None:
        if self.action_type in ("none", "text", "token", "latent"):
            raise self.error(f"a JEPA predicts from numbers or choices, not from {self.action_type!r} actions")
        for name in ("action_mean", "action_std"):
            if (count := len(getattr(self, name))) not in (0, self.action_dim):
                raise self.error(f"{name} must have one number for each of {self.action_dim} actions, got {count}")
        if self.normalise_actions and (self.action_mean or self.action_std):
            raise self.error("normalise_actions finds them out in training: leave action_mean and action_std out")

    @property
    def image_names(self) -> list[str]:
        """Image modalities, sorted."""
        return split_modalities(self.modalities)[0]

    @property
    def feature_names(self) -> list[str]:
        """What an encoder made before, where ``encoder`` is ``"features"``: ``features``, or the only observation."""
        others = split_modalities(self.modalities)[1]
        return (
            [] if self.encoder != "features" else others if len(others) == 1 else [n for n in others if n == "features"]
        )

    @property
    def vector_names(self) -> list[str]:
        """The other modalities, sorted."""
        return [name for name in split_modalities(self.modalities)[1] if name not in self.feature_names]

    @property
    def vector_size(self) -> int:
        """Numbers in all vectors together."""
        return sum(math.prod(self.modalities[name].shape) for name in self.vector_names)

    @property
    def image_channels(self) -> int:
        """Channels of all images together."""
        return sum(self.modalities[name].shape[0] for name in self.image_names)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.modalities[self.image_names[0]].shape[1:]
        return height, width

    @property
    def num_tokens(self) -> int:
        """Latents N of one row."""
        if self.patches and self.image_names:
            height, width = self.image_size
            return (height // self.patch_size) * (width // self.patch_size)
        if self.encoder == "features" and len(shape := self.modalities[self.feature_names[0]].shape) == 2:
            return shape[0]
        return self.tokens

    @property
    def image_dim(self) -> int:
        """Width of what the projector makes: of the latent, less what vectors fill of each of several."""
        return self.latent_dim - (self.vector_units if self.num_tokens > 1 and self.vector_names else 0)

    @property
    def feature_dim(self) -> int:
        """Width of what comes into the projector."""
        width = self.vector_units if self.num_tokens == 1 and self.vector_names else 0
        if self.encoder == "features":
            return width + self.modalities[self.feature_names[0]].shape[-1]
        if not self.image_names:
            return width
        if self.encoder == "vit":
            return width + self.encoder_units
        height, width_left = (math.ceil(side / 2 ** len(self.channels)) for side in self.image_size)
        return width + self.channels[-1] * height * width_left

    @property
    def window_rows(self) -> int:
        """Rows of the shortest clip to train on: one full window, and the rows it is rolled out over."""
        return self.history + self.rollout_steps

    @property
    def clip_rows(self) -> int:
        """Rows of the clips that are trained on."""
        return max(self.window_rows, self.amortised_steps + 1 if self.amortised else 0)

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``ci``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({"model_name": size, **preset_values(__name__, "jepa", size)}, overrides)
