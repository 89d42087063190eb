"""What a model answers: decoded predictions, and losses."""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .errors import ValidationError
from .registry import WorldModelRegistry
from .spec import PredictionSpec, SequenceLayout
from .state import State, register_pytree


@dataclass
class ModelOutput:
    """Decoded predictions ``[B, ...]`` by name: ``reward``, ``continue`` (a probability), and each observation."""

    predictions: dict[str, Tensor] = field(default_factory=dict)
    state: State | None = None
    uncertainty: Tensor | None = None
    aux: dict[str, Any] = field(default_factory=dict)
    prediction_spec: PredictionSpec | None = None
    sequence_layout: SequenceLayout | None = None

    def __init__(
        self,
        predictions: dict[str, Tensor] | None = None,
        state: State | None = None,
        uncertainty: Tensor | None = None,
        aux: dict[str, Any] | None = None,
        *,
        preds: dict[str, Tensor] | None = None,
        prediction_spec: PredictionSpec | None = None,
        sequence_layout: SequenceLayout | None = None,
    ) -> None:
        if predictions is not None and preds is not None:
            raise ValidationError("predictions and preds are one thing: give one of them")
        self.predictions = (predictions if preds is None else preds) or {}
        self.state, self.uncertainty, self.aux = state, uncertainty, aux or {}
        self.prediction_spec, self.sequence_layout = prediction_spec, sequence_layout

    @property
    def preds(self) -> dict[str, Tensor]:
        """The predictions."""
        return self.predictions

    def items(self) -> ItemsView[str, Tensor]:
        """The predictions' items."""
        return self.predictions.items()

    def validate(self) -> None:
        """Raise ValidationError if a prediction is not a tensor, the batch sizes differ, or a stated one is missing."""
        WorldModelRegistry.reach("integration", "contract_rules.outputs").check(self)


@dataclass
class LossOutput:
    """One scalar to differentiate, its named parts, and what to log.

    ``components`` are the parts before scaling; ``latents`` are states ``[B, T', ...]`` of the last ``T'`` rows
    of the batch, which a replay may store (``update``). ``group`` names the group of parameters that this step moves
    (None: all), as ``parameter_groups`` names them.
    """

    loss: Tensor
    components: dict[str, Tensor] = field(default_factory=dict)
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    latents: dict[str, Tensor] | None = None
    group: str | None = None

    def items(self) -> ItemsView[str, Tensor]:
        """The components' items."""
        return self.components.items()


register_pytree(ModelOutput, ("predictions", "state", "uncertainty", "aux"), ("prediction_spec", "sequence_layout"))
register_pytree(LossOutput, ("loss", "components", "metrics", "latents"), ("group",))
