"""The parts a model is made of, and how a caller replaces one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from .errors import ConfigurationError, did_you_mean
from .payloads import ConditionPayload
from .state import State
from .trajectory import Trajectory

# slot -> the method a component in that slot must have
SLOTS: Mapping[str, str] = MappingProxyType(
    {
        "observation_encoder": "encode",
        "action_conditioner": "condition",
        "dynamics_model": "transition",
        "decoder": "decode",
        "rollout_executor": "rollout_open_loop",
    }
)
SLOT_ALIASES: Mapping[str, str] = MappingProxyType({"decoder_module": "decoder", "rollout_engine": "rollout_executor"})


class ObservationEncoder(Protocol):
    """Turns observations into an embedding (or, where nothing is recurrent, into the latent state)."""

    def encode(self, observations: dict[str, Tensor]) -> State:
        """``observations`` maps modalities to ``[..., *shape]``; returns tensors ``[..., E]``."""
        ...


class ActionConditioner(Protocol):
    """Turns an action and conditions into what the dynamics reads; an empty dict means no influence."""

    def condition(
        self, state: State, action: Tensor, conditions: ConditionPayload | None = None
    ) -> dict[str, Tensor]: ...


class DynamicsModel(Protocol):
    """Predicts the next state ``[B, ...]`` (the prior) from a state and the conditioner's output."""

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State: ...


class Decoder(Protocol):
    """Predicts observations ``[B, ...]`` from a state; its further faces: ``arrival`` and ``losses``."""

    def decode(self, state: State, conditions: ConditionPayload | None = None) -> dict[str, Tensor]: ...


class RolloutExecutor(Protocol):
    """Imagines a trajectory of a WorldModel from a state and actions ``[H, B, A]``."""

    def rollout_open_loop(
        self,
        model: Any,
        initial_state: State,
        action_sequence: Tensor,
        conditions: ConditionPayload | None = None,
        deterministic: bool = False,
    ) -> Trajectory: ...


for _protocol in (ObservationEncoder, ActionConditioner, DynamicsModel, Decoder, RolloutExecutor):
    runtime_checkable(_protocol)


def canonical_slot(slot: str, slots: Mapping[str, str]) -> str:
    """Return the slot's own name. Raises ConfigurationError for an unknown slot."""
    name = SLOT_ALIASES.get(slot, slot)
    if name not in slots:
        raise ConfigurationError(
            f"unknown component slot {slot!r}, expected one of {list(slots)}.{did_you_mean(slot, slots)}"
        )
    return name


# --- faces: what a part may do beyond its slot's method, found by the method ------------------------------------------


def arrival(decoder: Any, state: State) -> dict[str, Tensor]:
    """What arriving in states ``[A, B, ...]`` pays, ``reward`` and ``continue`` ``[A, B]``, as far as it is predicted.

    A decoder with a method ``arrival(state)`` is asked for just that; another one decodes everything, row by row.
    """
    if face := getattr(decoder, "arrival", None):
        paid: dict[str, Tensor] = face(state)
        return paid
    lead = next(iter(state.tensors.values())).shape[:2]
    preds = decoder.decode(state.map(lambda value: value.flatten(0, 1)))
    return {name: preds[name].reshape(lead) for name in ("reward", "continue") if name in preds}
