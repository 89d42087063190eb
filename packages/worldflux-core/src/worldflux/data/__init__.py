"""From experience to batches: the replay, sources of batches, and collecting from environments."""

from .environment_source import EnvironmentSource
from .providers import BatchProvider, BatchProviderV2, BatchRequest, as_batch, as_provider
from .replay import Replay
from .replay_buffer import ReplayBuffer

__all__ = [
    "BatchProvider",
    "BatchProviderV2",
    "BatchRequest",
    "EnvironmentSource",
    "Replay",
    "ReplayBuffer",
    "as_batch",
    "as_provider",
]
