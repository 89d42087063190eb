"""Everything that can be chosen about a frozen encoder as a model of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch

from worldflux import Amount, Count, Positive, WorldModelConfig
from worldflux.blocks import preset_values, split_modalities, unfit

from .kinds import KINDS, Kind
from .patches import PATCHES
from .preprocess import rules_of
from .weights import Weights, drawn, weights_at

ConfigT = TypeVar("ConfigT", bound="ExternalConfig")


@dataclass
class ExternalConfig(WorldModelConfig):
    """Which encoder, from where, and what of it is the latent.

    ``source`` is a folder that ``save_pretrained`` of ``transformers`` wrote, or a Hub id (of a ``revision``); its
    class must be ``encoder``'s. Without a source weights are drawn from ``seed`` for the sizes in ``encoder_config``: a
    baseline. ``encoder_config`` and ``weights_sha256`` of a source are filled in when a model is built, and saved with
    it, so that no other weights are taken for them. ``image_size`` 0 keeps the encoder's own size and margins.

    ``pool`` is "mean" of the patches, "cls" or all "patches". ``latent_dim`` 0 takes that as the latent, and nothing is
    learnt; otherwise a linear layer to ``latent_dim`` numbers is, which keeps as much of it as it can.
    Raises ConfigurationError.
    """

    gone: ClassVar[Mapping[str, str]] = {
        "trust_remote_code": "Code that comes with weights is never run here: leave it out.",
    }
    model_type: str = "external"
    model_name: str = "dinov2"
    obs_shape: tuple[Count, ...] = (3, 224, 224)
    encoder: Literal["dinov2", "dinov2-registers", "dinov3", "ijepa", "vit", "vjepa2", "patches"] = "dinov2"
    source: str = ""
    revision: str = ""
    encoder_config: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    image_size: Amount = 0
    pool: Literal["mean", "cls", "patches"] = "mean"
    latent_dim: Amount = 0
    learning_rate: Positive = 1e-3
    batch_size: Count = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if why := unfit(self.modalities, reserved=("latent",), layers=False):
            raise self.error(why)
        images, others = split_modalities(self.modalities)
        if not images or others:
            raise self.error(f"an external encoder observes images alone, got {sorted(self.modalities)}")
        if self.source and self.encoder == PATCHES.name:
            raise self.error("encoder='patches' is drawn, it has no source: leave source out")

    def weights(self) -> Weights:
        """Find the weights.

        Raises ConfigurationError or CheckpointError if they are not there, not ``encoder``'s, or not those saved with.
        """
        kind = PATCHES if self.encoder == PATCHES.name else KINDS[self.encoder]
        remote = bool(self.source) and not Path(self.source).expanduser().is_dir()
        if not self.source or (
            remote and torch.get_default_device().type == "meta"
        ):  # there sizes are all that is asked
            return self._drawn(kind)
        found = weights_at(self.source, revision=self.revision or None)
        if found.kind is not kind:
            raise self.error(f"{self.source} holds a {found.kind.class_name}: use 'external:{found.kind.name}'")
        if self.weights_sha256 and found.digest != self.weights_sha256:
            raise self.error(
                f"the weights in {self.source} have SHA-256 {found.digest[:12]}..., expected {self.weights_sha256[:12]}"
                "...: name the folder or the revision that was meant, or leave weights_sha256 out"
            )
        return found

    def _drawn(self, kind: Kind) -> Weights:
        """Weights of the sizes in ``encoder_config``, which nobody trained."""
        if not self.encoder_config:
            hub = f", or the Hub id {kind.hub!r}" if kind.hub else ""
            raise self.error(f"source is empty: give the folder of a {kind.class_name}{hub}")
        for name in ("hidden_size", "patch_size"):
            if not isinstance(self.encoder_config.get(name), int) or self.encoder_config[name] < 1:
                raise self.error(f"encoder_config must have {name}, a whole number, for weights that are drawn")
        pixels = rules_of(kind, self.encoder_config, {})
        return drawn(kind, self.encoder_config, pixels, seed=self.seed)

    def described(self: ConfigT, weights: Weights) -> ConfigT:
        """The same config, with which weights these are."""
        known = {"encoder_config": weights.config, "weights_sha256": weights.digest}
        if weights.folder is not None and weights.folder.parent.name == "snapshots":  # of the Hub's cache
            known["revision"] = weights.folder.name
        return self.with_overrides(**known)

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config of a preset such as ``dinov2``. Raises ConfigurationError naming the known ones."""
        return cls.from_dict({"model_name": size, **preset_values(__name__, "external", size)}, overrides)
