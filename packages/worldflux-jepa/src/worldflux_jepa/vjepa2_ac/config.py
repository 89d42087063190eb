"""Everything that can be chosen about a V-JEPA 2-AC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from worldflux import Count, Field, ModalityKind, NonNegative, Positive, WorldModelConfig
from worldflux.blocks import preset_values

from ..layers.rope import axis_channels
from .pose import SIZE

ConfigT = TypeVar("ConfigT", bound="VJEPA2ACConfig")
Frames = Annotated[int, Field(ge=2)]
POSE, CAMERA = "pose", "extrinsics"
VECTORS = {POSE: SIZE, CAMERA: 6}


@dataclass
class VJEPA2ACConfig(WorldModelConfig):
    """Sizes, objective and training defaults; the values here are ``vjepa2-ac:giant``.

    It observes one image (sides in whole patches). Beside it may stand ``pose [7]`` (place, angles, grip), which
    7-dimensional actions then move, and ``extrinsics [6]``, where the camera is. The predictor sees ``window`` frames,
    the newest one included; of frames that were seen a state keeps ``history`` (the official planner's is 1), the rest
    is room for those imagined. ``auto_steps`` are the steps of the rollout that it learns from beside the single step;
    ``loss_exponent`` is p of ``|prediction - target|^p / p``. ``rope_layout`` as in ``vjepa2``.
    Raises ConfigurationError.

    Source: Assran et al. 2025, "V-JEPA 2"; facebookresearch/vjepa2 at c2963a4, ``app/vjepa_droid``.
    """

    model_type: str = "vjepa2-ac"
    model_name: str = "giant"
    obs_shape: tuple[Count, ...] = (3, 256, 256)
    action_dim: int = SIZE
    # the encoder, which stays as it is
    embed_dim: Count = 1408
    depth: Count = 40
    num_heads: Count = 22
    mlp_ratio: Positive = 48 / 11
    patch_size: Count = 16
    tubelet_size: Count = 2
    encoder_eps: Positive = 1e-6
    qkv_bias: bool = True
    latent_eps: Positive = 1e-5
    # the predictor
    predictor_dim: Count = 1024
    predictor_depth: Count = 24
    predictor_heads: Count = 16
    predictor_mlp_ratio: Positive = 4.0
    predictor_eps: Positive = 1e-6
    rope_layout: Literal["vjepa2", "standard"] = "vjepa2"
    window: Frames = 8
    history: Count = 4
    # learning
    auto_steps: Count = 2
    loss_exponent: Positive = 1.0
    weight_decay: NonNegative = 0.04
    learning_rate: Positive = 4.25e-4
    batch_size: Count = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = {name: spec.kind for name, spec in self.modalities.items()}
        images = [name for name, kind in kinds.items() if kind is ModalityKind.IMAGE]
        if len(images) != 1:
            raise self.error(f"V-JEPA 2-AC observes one image, got {images}: leave the others out")
        self._check_vectors([name for name in kinds if name not in images])
        height, width = self.modalities[images[0]].shape[1:]
        if height % self.patch_size or width % self.patch_size:
            raise self.error(f"images of {height} x {width} pixels are no whole patches of {self.patch_size}")
        for size, heads in ((self.embed_dim, self.num_heads), (self.predictor_dim, self.predictor_heads)):
            if size % heads:
                raise self.error(f"a width of {size} cannot be split into {heads} heads")
            axis_channels(size // heads)
        if self.action_type in ("none", "text", "token", "latent"):
            raise self.error(f"V-JEPA 2-AC predicts from numbers or choices, not from {self.action_type!r} actions")
        if self.history > self.window:
            raise self.error(f"history {self.history} must not exceed window {self.window}, which it is a part of")
        if self.auto_steps >= self.window:
            raise self.error(
                f"auto_steps {self.auto_steps} must be below window {self.window}, which they have to fit in"
            )

    def _check_vectors(self, names: list[str]) -> None:
        for name in names:
            shape = self.modalities[name].shape
            if name not in VECTORS or shape != (VECTORS[name],):
                raise self.error(
                    f"observation {name!r} of shape {shape} is neither an image, nor '{POSE}' of shape ({SIZE},), nor "
                    f"'{CAMERA}' of shape ({VECTORS[CAMERA]},)"
                )
        if CAMERA in names and POSE not in names:
            raise self.error(f"observation '{CAMERA}' says where the camera is that sees '{POSE}': observe that, too")
        if POSE in names and (self.action_type, self.action_dim) != ("continuous", SIZE):
            raise self.error(
                f"a '{POSE}' is moved by {SIZE} continuous numbers (step, turn, grip), got {self.action_dim} of "
                f"{self.action_type!r}"
            )

    @property
    def image_name(self) -> str:
        """What the image is called."""
        return next(name for name, spec in self.modalities.items() if spec.kind is ModalityKind.IMAGE)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Which of ``pose`` and ``extrinsics`` are observed, in this order."""
        return tuple(name for name in VECTORS if name in self.modalities)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        _, height, width = self.modalities[self.image_name].shape
        return height // self.patch_size, width // self.patch_size

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``ci``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({"model_name": size, **preset_values(__name__, "vjepa2-ac", size)}, overrides)
