"""What an MBPO takes and gives."""

from __future__ import annotations

from worldflux.core.spec import (
    ModalityKind,
    ModalitySpec,
    ModelIOContract,
    ObservationSpec,
    PredictionSpec,
    SequenceLayout,
    StateSpec,
)

from .config import MBPOConfig


def contract_of(config: MBPOConfig) -> ModelIOContract:
    """The input/output contract of a model."""
    vector = ModalityKind.VECTOR
    number = ModalitySpec(vector, ())
    state = {"obs": ModalitySpec(vector, (config.obs_size,)), "reward": number, "continue": number}
    shown = {name: ModalitySpec(vector, spec.shape) for name, spec in config.modalities.items()}
    fields = ("obs", "actions", "rewards", "terminations")
    return ModelIOContract(
        observation_spec=ObservationSpec(config.modalities),
        action_spec=config.actions,
        state_spec=StateSpec(state),
        prediction_spec=PredictionSpec({**shown, "reward": number, "continue": number}),
        sequence_layout=SequenceLayout(dict.fromkeys(fields, "BT...")),
        required_batch_keys=fields,
        required_state_keys=tuple(state),
    )
