"""Everything that can be chosen about a V-JEPA 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from worldflux import Amount, Count, Field, ModalityKind, NonNegative, Positive, Share, WorldModelConfig
from worldflux.blocks import preset_values

from ..layers.rope import axis_channels

ConfigT = TypeVar("ConfigT", bound="VJEPA2Config")
Part = Annotated[float, Field(gt=0, lt=1)]


@dataclass
class VJEPA2Config(WorldModelConfig):
    """Sizes, masks, objective and training defaults; the values here are ``vjepa2:base``.

    It observes one image (``[C, H, W]``, sides in whole patches). ``clip_frames`` are the lengths of the clips that a
    training sequence is cut into; each has a mask token of its own, ``mask_index`` and those after it. ``rope_layout``
    "vjepa2" turns channels as all released weights expect, "standard" as rotary positions are meant. ``mask_mode``
    says whether the encoder reads the tokens of the context alone ("before") or the whole clip, of which the context
    is then taken ("after", as in transformers). Every mask hides the union of ``mask_blocks`` tubes of
    ``mask_scales`` of the picture each; ``masking`` "fixed" takes ``target_shares`` and ``context_shares`` of every
    time step, "official" what the official generator takes. ``ema_decay`` is how much of the target encoder an
    update keeps. Raises ConfigurationError.

    Source: Assran et al. 2025, "V-JEPA 2"; facebookresearch/vjepa2 at c2963a4.
    """

    model_type: str = "vjepa2"
    model_name: str = "base"
    obs_shape: tuple[Count, ...] = (3, 256, 256)
    # encoder
    patch_size: Count = 16
    tubelet_size: Count = 2
    embed_dim: Count = 768
    depth: Count = 12
    num_heads: Count = 12
    mlp_ratio: Positive = 4.0
    qkv_bias: bool = True
    encoder_eps: Positive = 1e-6
    rope_layout: Literal["vjepa2", "standard"] = "vjepa2"
    # predictor
    pred_embed_dim: Count = 384
    pred_depth: Count = 12
    pred_num_heads: Count = 12
    pred_mlp_ratio: Positive = 4.0
    predictor_eps: Positive = 1e-6
    num_mask_tokens: Count = 10
    mask_index: Amount = 0
    mask_mode: Literal["before", "after"] = "before"
    # masks
    masking: Literal["fixed", "official"] = "fixed"
    mask_blocks: tuple[Count, ...] = (8, 2)
    mask_scales: tuple[Part, ...] = (0.15, 0.7)
    aspect_ratios: tuple[Positive, Positive] = (0.75, 1.5)
    target_shares: tuple[Part, ...] = (0.45, 0.7)
    context_shares: tuple[Part, ...] = (0.25, 0.06)
    # objective
    clip_frames: tuple[Count, ...] = (16,)
    loss_exponent: Positive = 1.0
    target_eps: Positive = 1e-5
    ema_decay: Share = 0.99925
    # training
    learning_rate: Positive = 5.25e-4
    weight_decay: NonNegative = 0.04
    warmup_steps: Amount = 12_000
    scheduler: Literal["none", "constant", "linear", "cosine"] = "constant"
    batch_size: Count = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_observations()
        self._check_heads()
        self._check_masks()

    def _check_observations(self) -> None:
        shown = self.modalities
        if [spec.kind for spec in shown.values()] != [ModalityKind.IMAGE]:
            told = {name: spec.kind.value for name, spec in shown.items()}
            raise self.error(f"V-JEPA 2 observes one image, got {told}: give obs_shape=(3, 64, 64) or one 'image'")
        height, width = self.obs_shape[1:]
        if height % self.patch_size or width % self.patch_size:
            raise self.error(
                f"images of {height} x {width} pixels hold no whole number of patches of {self.patch_size}: "
                f"choose a patch_size that divides both, or resize the images (image_size)"
            )

    def _check_heads(self) -> None:
        for width, heads in (("embed_dim", "num_heads"), ("pred_embed_dim", "pred_num_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise self.error(f"{width} {getattr(self, width)} must be divisible by {heads} {getattr(self, heads)}")
            axis_channels(getattr(self, width) // getattr(self, heads))

    def _check_masks(self) -> None:
        lists = ("mask_blocks", "mask_scales", "target_shares", "context_shares")
        lengths = {name: len(getattr(self, name)) for name in lists}
        if len(set(lengths.values())) > 1 or not self.mask_blocks:
            raise self.error(f"every mask needs one entry in each of {list(lists)}, got {lengths}")
        if not self.clip_frames or min(self.clip_frames) < self.tubelet_size:
            raise self.error(
                f"clip_frames {self.clip_frames} must all hold a tubelet of tubelet_size {self.tubelet_size} frames"
            )
        if self.mask_index + len(self.clip_frames) > self.num_mask_tokens:
            raise self.error(
                f"mask_index {self.mask_index} and {len(self.clip_frames)} clip_frames need "
                f"{self.mask_index + len(self.clip_frames)} mask tokens, num_mask_tokens is {self.num_mask_tokens}"
            )
        if self.aspect_ratios[0] > self.aspect_ratios[1]:
            raise self.error(f"aspect_ratios {self.aspect_ratios} must go from the smallest to the largest")
        cells = self.grid[0] * self.grid[1]
        if cells < 2:
            raise self.error(
                f"a picture of {cells} patch leaves nothing to predict: choose a patch_size below {self.patch_size}"
            )
        for target, context in zip(self.target_shares, self.context_shares, strict=True):
            if part_of(target, cells) + part_of(context, cells) > cells:
                raise self.error(
                    f"target_shares {target} and context_shares {context} take {part_of(target, cells)} and "
                    f"{part_of(context, cells)} of a picture's {cells} patches: together at most all, so lower one"
                )

    @property
    def image_name(self) -> str:
        """What the one observation is called."""
        return next(iter(self.modalities))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.obs_shape[1] // self.patch_size, self.obs_shape[2] // self.patch_size

    @property
    def trained_tokens(self) -> range:
        """Which mask tokens the loss reads."""
        return range(self.mask_index, self.mask_index + len(self.clip_frames))

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``large``. Raises ConfigurationError naming the known sizes."""
        return cls.from_dict({"model_name": size, **preset_values(__name__, "vjepa2", size)}, overrides)


def part_of(share: float, cells: int) -> int:
    """How many of a picture's patches a share of it is: one at least."""
    return max(1, round(share * cells))
