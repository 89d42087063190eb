"""What a decoder's predictions cost: its own losses where it brings them, else those that fit any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from worldflux.core.errors import ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ModalityKind, ModalitySpec
from worldflux.core.state import State

from .numeric import symlog


def decoder_losses(
    decoder: Any, state: State, targets: Mapping[str, Tensor], *, modalities: Mapping[str, ModalitySpec]
) -> dict[str, Tensor]:
    """Losses ``[A, B]`` of what a decoder makes of states ``[A, B, ...]``: one for each modality, ``rew`` and ``con``.

    ``targets`` are modalities ``[A, B, ...]`` as stored, ``reward`` and ``continue`` ``[A, B]``, what a model learns of
    them. A decoder with a method ``losses(state, targets)`` brings its own. One that only predicts is judged by squared
    errors summed over a modality's axes (images in [0, 1], vectors and rewards as symlog), and by the cross entropy of
    ``continue``. Raises ConfigurationError if it predicts too little, ShapeMismatchError for another shape.
    """
    if face := getattr(decoder, "losses", None):
        own: dict[str, Tensor] = face(state, targets)
        return own
    lead = next(iter(targets.values())).shape[:2]
    preds = decoder.decode(state.map(lambda value: value.flatten(0, 1)))
    if missing := sorted(set(targets) - set(preds)):
        raise ConfigurationError(f"the decoder predicts {sorted(preds)}; training needs {missing}, too")
    found: dict[str, Tensor] = {}
    for name, target in targets.items():
        event = tuple(target.shape[2:])
        if tuple(preds[name].shape[1:]) not in (event, event or (1,)):  # numbers may stand in a column
            expected, got = ("N", *event), tuple(preds[name].shape)
            raise ShapeMismatchError(f"the decoder's {name!r}", expected=expected, got=got)
        predicted = preds[name].reshape(target.shape)
        if name == "continue":
            chance = predicted.float().clamp(1e-6, 1 - 1e-6)  # half precision holds nothing between that and 1
            found["con"] = -(target * chance.log() + (1 - target) * (-chance).log1p())
            continue
        if name in modalities and modalities[name].kind is ModalityKind.IMAGE:
            error = predicted - (target if target.is_floating_point() else target.float() / 255)
        else:
            error = symlog(predicted) - symlog(target.float())
        found["rew" if name == "reward" else name] = error.square().reshape(*lead, -1).sum(-1)
    return found
