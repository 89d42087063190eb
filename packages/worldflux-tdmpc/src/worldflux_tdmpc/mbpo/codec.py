"""Between observations and the flat vector that everything here predicts and reads."""

from __future__ import annotations

import math

from torch import Tensor

from worldflux import ConditionPayload, State
from worldflux.blocks import joined_vectors

from .config import MBPOConfig


class Encoder:
    """All modalities, flattened and joined in sorted order."""

    def __init__(self, config: MBPOConfig) -> None:
        self.ranks = {name: len(config.modalities[name].shape) for name in config.vector_names}

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]`` to ``State({"obs": [..., O]})``."""
        return State({"obs": joined_vectors(observations, self.ranks)})


class Decoder:
    """Splits the vector into its modalities again; reward and ``continue`` are the state's."""

    def __init__(self, config: MBPOConfig) -> None:
        self.shapes = {name: config.modalities[name].shape for name in config.vector_names}

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Each modality ``[B, *shape]``, ``reward [B]`` and ``continue [B]``, a probability."""
        obs = state["obs"]
        parts = zip(self.shapes.items(), obs.split([math.prod(shape) for shape in self.shapes.values()], -1))
        seen = {name: part.reshape(*obs.shape[:-1], *shape) for (name, shape), part in parts}
        return {**seen, **self.arrival(state)}

    def arrival(self, state: State) -> dict[str, Tensor]:
        """``reward`` and ``continue`` ``[...]``."""
        return {"reward": state["reward"], "continue": state["continue"]}
