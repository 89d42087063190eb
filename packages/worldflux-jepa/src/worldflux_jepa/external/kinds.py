"""The encoders of others that may be used, and what their outputs look like; no other class is ever built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worldflux import ConfigurationError, did_you_mean

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
HEADS = ("Model", "Backbone", "ForImageClassification", "ForVideoClassification")  # saved with or without a head


@dataclass(frozen=True)
class Kind:
    """One kind of encoder.

    ``name`` is the preset's; ``model_type`` what config.json calls it; ``class_name`` the class of ``transformers``,
    which is made with ``build`` and called with ``call``; ``has_cls`` whether a CLS token comes before the patches;
    ``video`` whether it reads clips; ``hub`` where its weights are published.
    """

    name: str
    model_type: str
    class_name: str
    hub: str
    has_cls: bool = False
    video: bool = False
    pixels: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    build: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architectures(self) -> tuple[str, ...]:
        """The classes whose saved weights hold this encoder."""
        stem = self.class_name.removesuffix("Model")
        return tuple(stem + head for head in HEADS)


_ANY_SIZE = {"interpolate_pos_encoding": True}
KINDS = {
    kind.name: kind
    for kind in (
        Kind("dinov2", "dinov2", "Dinov2Model", "facebook/dinov2-small", has_cls=True),
        Kind(
            "dinov2-registers",
            "dinov2_with_registers",
            "Dinov2WithRegistersModel",
            "facebook/dinov2-with-registers-small",
            has_cls=True,
        ),
        Kind("dinov3", "dinov3_vit", "DINOv3ViTModel", "facebook/dinov3-vits16-pretrain-lvd1689m", has_cls=True),
        Kind(
            "ijepa",
            "ijepa",
            "IJepaModel",
            "facebook/ijepa_vith14_1k",
            build={"add_pooling_layer": False},
            call=_ANY_SIZE,
        ),
        Kind(
            "vit",
            "vit",
            "ViTModel",
            "google/vit-base-patch16-224-in21k",
            has_cls=True,
            pixels=HALVES,
            build={"add_pooling_layer": False},
            call=_ANY_SIZE,
        ),
        Kind(
            "vjepa2",
            "vjepa2",
            "VJEPA2Model",
            "facebook/vjepa2-vitl-fpc64-256",
            video=True,
            call={"skip_predictor": True},
        ),
    )
}


def kind_named(name: str) -> Kind:
    """The kind of a preset's name. Raises ConfigurationError for another."""
    if name not in KINDS:
        raise ConfigurationError(f"unknown encoder {name!r}, expected one of {list(KINDS)}.{did_you_mean(name, KINDS)}")
    return KINDS[name]


def kind_of(config: Mapping[str, Any], place: str) -> Kind:
    """The kind that a config.json describes.

    Raises ConfigurationError for a class that is not on the list, or code of the weights' author, which is never run.
    """
    if config.get("auto_map"):
        raise ConfigurationError(
            f"{place} asks to run code of its own (auto_map): that is never done (there is no trust_remote_code). "
            f"Use weights of one of the classes {[kind.class_name for kind in KINDS.values()]}"
        )
    model_type, given = config.get("model_type"), config.get("architectures") or ()
    found = next((kind for kind in KINDS.values() if kind.model_type == model_type), None)
    if found is None or any(name not in found.architectures for name in given):
        what = f"model_type {model_type!r}, architectures {list(given)}"
        raise ConfigurationError(
            f"{place} holds {what}: expected one of {[kind.class_name for kind in KINDS.values()]}; another encoder "
            "can be put into the slot observation_encoder as a class of your own"
        )
    return found
