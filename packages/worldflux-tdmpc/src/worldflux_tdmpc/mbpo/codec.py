"""Between observations and the flat vector that everything here predicts and reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from worldflux.core.payloads import ConditionPayload
from worldflux.core.state import State

from .config import MBPOConfig


class Encoder:
    """All modalities, flattened and joined in sorted order."""

    def __init__(self, config: MBPOConfig) -> None:
        self.ranks = {name: len(config.modalities[name].shape) for name in config.names}

    def encode(self, observations: dict[str, Tensor]) -> State:
        """Modalities ``[..., *shape]`` to ``State({"obs": [..., O]})``."""
        parts = []
        for name, rank in self.ranks.items():
            value = observations[name].float()
            parts.append(value.reshape(*value.shape[: value.ndim - rank], -1))
        return State({"obs": torch.cat(parts, -1) if len(parts) > 1 else parts[0]})


class Decoder:
    """Splits the vector into its modalities again; reward and ``continue`` are the state's."""

    def __init__(self, config: MBPOConfig) -> None:
        self.shapes = {name: config.modalities[name].shape for name in config.names}

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]:
        """Each modality ``[B, *shape]``, ``reward [B]`` and ``continue [B]``, a probability."""
        obs = state["obs"]
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), obs.split(sizes, -1))
        seen = {name: part.reshape(*obs.shape[:-1], *shape) for (name, shape), part in parts}
        return {**seen, "reward": state["reward"], "continue": state["continue"]}
