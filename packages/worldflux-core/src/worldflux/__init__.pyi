from worldflux.agent import Agent
from worldflux.blocks import decoder_losses
from worldflux.blocks.latent_space import CategoricalLatentSpace, GaussianLatentSpace, LatentSpace, SimNormLatentSpace
from worldflux.core.batch import Batch
from worldflux.core.components import (
    SLOTS,
    ActionConditioner,
    Decoder,
    DynamicsModel,
    ObservationEncoder,
    RolloutExecutor,
    arrival,
)
from worldflux.core.config import WorldModelConfig
from worldflux.core.errors import (
    BufferError,
    CapabilityError,
    CheckpointError,
    ConfigurationError,
    ContractValidationError,
    ModelNotFoundError,
    PluginError,
    ShapeMismatchError,
    StateError,
    TrainingError,
    ValidationError,
    WorldFluxError,
    did_you_mean,
)
from worldflux.core.fields import Amount, Count, Field, Fields, NonNegative, Positive, Share
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput, ModelOutput
from worldflux.core.payloads import (
    Action,
    ActionPayload,
    ActionSequence,
    ConditionPayload,
    Observations,
    WorldModelInput,
)
from worldflux.core.policy import Carry, Policy
from worldflux.core.registry import ComponentSpec, WorldModelRegistry
from worldflux.core.spec import (
    ActionPart,
    ActionSpec,
    Capability,
    ConditionSpec,
    ModalityKind,
    ModalitySpec,
    ModelIOContract,
    ObservationSpec,
    PredictionSpec,
    SequenceFieldSpec,
    SequenceLayout,
    StateSpec,
    decoded,
    vector,
)
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory
from worldflux.data import (
    BatchProvider,
    BatchProviderV2,
    BatchRequest,
    Dataset,
    DatasetWriter,
    EnvironmentSource,
    Replay,
    ReplayBuffer,
    open_dataset,
)
from worldflux.delegated import OfficialBackendHandle
from worldflux.envs import RandomPolicy, VectorEnv, make_env
from worldflux.evals import evaluate_policy, imagine
from worldflux.experiment import Run, fit
from worldflux.factory import create_world_model, get_config, get_model_info, list_models
from worldflux.importing import import_weights
from worldflux.recipe import Recipe
from worldflux.schema import json_schema
from worldflux.training import Trainer, TrainingConfig, train

__version__: str

__all__ = [
    "__version__",
    "Action",
    "ActionConditioner",
    "ActionPart",
    "ActionPayload",
    "ActionSequence",
    "ActionSpec",
    "Agent",
    "Amount",
    "Batch",
    "BatchProvider",
    "BatchProviderV2",
    "BatchRequest",
    "BufferError",
    "Capability",
    "CapabilityError",
    "Carry",
    "CategoricalLatentSpace",
    "CheckpointError",
    "ComponentSpec",
    "ConditionPayload",
    "ConditionSpec",
    "ConfigurationError",
    "ContractValidationError",
    "Count",
    "Dataset",
    "DatasetWriter",
    "Decoder",
    "DynamicsModel",
    "EnvironmentSource",
    "Field",
    "Fields",
    "GaussianLatentSpace",
    "LatentSpace",
    "LossOutput",
    "ModalityKind",
    "ModalitySpec",
    "ModelIOContract",
    "ModelNotFoundError",
    "ModelOutput",
    "NonNegative",
    "ObservationEncoder",
    "ObservationSpec",
    "Observations",
    "OfficialBackendHandle",
    "PluginError",
    "Policy",
    "Positive",
    "PredictionSpec",
    "RandomPolicy",
    "Recipe",
    "Replay",
    "ReplayBuffer",
    "RolloutExecutor",
    "Run",
    "SLOTS",
    "SequenceFieldSpec",
    "SequenceLayout",
    "ShapeMismatchError",
    "Share",
    "SimNormLatentSpace",
    "State",
    "StateError",
    "StateSpec",
    "Trainer",
    "TrainingConfig",
    "TrainingError",
    "Trajectory",
    "ValidationError",
    "VectorEnv",
    "WorldFluxError",
    "WorldModel",
    "WorldModelConfig",
    "WorldModelInput",
    "WorldModelRegistry",
    "arrival",
    "create_world_model",
    "decoded",
    "decoder_losses",
    "did_you_mean",
    "evaluate_policy",
    "fit",
    "get_config",
    "get_model_info",
    "imagine",
    "import_weights",
    "json_schema",
    "list_models",
    "make_env",
    "open_dataset",
    "train",
    "vector",
]
