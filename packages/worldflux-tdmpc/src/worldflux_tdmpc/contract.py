"""What a TD-MPC2 takes and gives."""

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

from .config import TASK, TDMPC2Config


def contract_of(config: TDMPC2Config) -> ModelIOContract:
    """The input/output contract of a model."""
    vector = ModalityKind.VECTOR
    state = {
        "latent": ModalitySpec(vector, (config.latent_dim,)),
        "reward_logits": ModalitySpec(vector, (config.num_bins,)),
    }
    if config.num_tasks > 1:
        state[TASK] = ModalitySpec(ModalityKind.OTHER, (), "int64")
    names = ["reward", "continue"] if config.episodic else ["reward"]
    fields = ("obs", "actions", "rewards", *(["terminations"] if config.episodic else []))
    return ModelIOContract(
        observation_spec=ObservationSpec(config.modalities),
        action_spec=config.actions,
        state_spec=StateSpec(state),
        prediction_spec=PredictionSpec({name: ModalitySpec(vector, ()) for name in names}),
        sequence_layout=SequenceLayout(dict.fromkeys(fields, "BT...")),
        required_batch_keys=fields,
        required_state_keys=("latent", *([TASK] if config.num_tasks > 1 else [])),
    )
