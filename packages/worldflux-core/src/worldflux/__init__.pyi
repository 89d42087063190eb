from worldflux.core.backends import OfficialBackendHandle
from worldflux.core.batch import Batch
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
)
from worldflux.core.latent_space import CategoricalLatentSpace, GaussianLatentSpace, LatentSpace, SimNormLatentSpace
from worldflux.core.model import WorldModel
from worldflux.core.output import LossOutput, ModelOutput
from worldflux.core.payloads import ActionPayload, ActionSequence, ConditionPayload, WorldModelInput
from worldflux.core.policy import Policy
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
)
from worldflux.core.state import State
from worldflux.core.trajectory import Trajectory
from worldflux.data import BatchProvider, BatchProviderV2, BatchRequest, EnvironmentSource, Replay, ReplayBuffer
from worldflux.envs import RandomPolicy, VectorEnv, make_env
from worldflux.evals import evaluate_policy, imagine
from worldflux.experiment import Run, fit
from worldflux.factory import create_world_model, get_config, get_model_info, import_weights, list_models
from worldflux.training import Trainer, TrainingConfig, train

__version__: str

__all__ = [
    "__version__",
    "ActionPart",
    "ActionPayload",
    "ActionSequence",
    "ActionSpec",
    "Batch",
    "BatchProvider",
    "BatchProviderV2",
    "BatchRequest",
    "BufferError",
    "Capability",
    "CapabilityError",
    "CategoricalLatentSpace",
    "CheckpointError",
    "ComponentSpec",
    "ConditionPayload",
    "ConditionSpec",
    "ConfigurationError",
    "ContractValidationError",
    "EnvironmentSource",
    "GaussianLatentSpace",
    "LatentSpace",
    "LossOutput",
    "ModalityKind",
    "ModalitySpec",
    "ModelIOContract",
    "ModelNotFoundError",
    "ModelOutput",
    "ObservationSpec",
    "OfficialBackendHandle",
    "PluginError",
    "Policy",
    "PredictionSpec",
    "RandomPolicy",
    "Replay",
    "ReplayBuffer",
    "Run",
    "SequenceFieldSpec",
    "SequenceLayout",
    "ShapeMismatchError",
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
    "create_world_model",
    "evaluate_policy",
    "fit",
    "get_config",
    "get_model_info",
    "imagine",
    "import_weights",
    "list_models",
    "make_env",
    "train",
]
