"""Observations of several modalities: which there are, whether a family can take them, and how they are joined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from worldflux.core.spec import ModalityKind, ModalitySpec


def split_modalities(modalities: Mapping[str, ModalitySpec]) -> tuple[list[str], list[str]]:
    """The names of images, and those of everything else, each sorted."""
    images = sorted(name for name, spec in modalities.items() if spec.kind is ModalityKind.IMAGE)
    return images, sorted(set(modalities) - set(images))


def unfit(
    modalities: Mapping[str, ModalitySpec],
    *,
    reserved: Collection[str] = (),
    layers: bool = True,
    image_size: tuple[int, int] | None = None,
) -> str:
    """Why a family of images and vectors cannot observe these; nothing (an empty string) if it can.

    ``reserved`` names are the family's own; ``layers`` says that it builds layers called like observations;
    ``image_size`` is the height and width it needs.
    """
    for name, spec in modalities.items():
        if why := unusable(name, reserved, layers=layers):
            return f"observation {name!r} needs another name: {why}"
        if spec.kind not in (ModalityKind.IMAGE, ModalityKind.VECTOR, ModalityKind.OTHER):
            return f"observation {name!r} is of kind {spec.kind.value!r}, expected 'image', 'vector' or 'other'"
        if image_size is not None and spec.kind is ModalityKind.IMAGE and spec.shape[1:] != image_size:
            wanted, got = ("x".join(map(str, size)) for size in (image_size, spec.shape[1:]))
            side = image_size[0]
            hint = (
                f" (image_size={side}, --image-size {side}; render_size where it is rendered)"
                if image_size == (side, side)
                else ""
            )
            return f"image {name!r} must have {wanted} pixels, got {got}: resize it{hint}"
    return ""


def unusable(name: str, reserved: Collection[str] = (), *, layers: bool = True) -> str:
    """Why an observation or a part of an action cannot be called ``name``; nothing (an empty string) if it can."""
    if not name:
        return "it is empty"
    if name in reserved or "." in name:
        return "no dots" + (f", none of {sorted(reserved)}" if reserved else "")
    if layers and hasattr(nn.ModuleDict(), name):  # of an instance: it has attributes that its class has not
        return f"torch's modules have a {name!r} of theirs"
    return ""


def joined_vectors(
    observations: Mapping[str, Tensor],
    ranks: Mapping[str, int],
    each: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Join vectors of several ranks to ``[..., V]``, as float32, in the order of ``ranks``.

    ``observations`` are ``[..., *shape]``, ``ranks`` says how many axes are the shape's; ``each`` is applied to each
    one, flattened to ``[..., n]``.
    """
    flat = []
    for name, rank in ranks.items():
        value = observations[name].float()
        value = value if rank == 1 else value.reshape(*value.shape[: value.ndim - rank], -1)
        flat.append(value if each is None else each(value))
    return torch.cat(flat, -1) if len(flat) > 1 else flat[0]


def folded(function: Callable[[Tensor], Tensor], x: Tensor, *, rank: int) -> Tensor:
    """``function`` of ``[N, ...]``, applied to ``x`` with any leading axes before its last ``rank``; they come back."""
    if x.ndim == rank + 1:
        return function(x)
    lead, shape = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
    found = function(x.reshape(-1, *shape))
    return found.reshape(*lead, *found.shape[1:])
