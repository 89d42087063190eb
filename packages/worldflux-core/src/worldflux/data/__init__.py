"""From experience to batches: the replay, sources of batches, and collecting from environments."""

from .bounds import ActionBounds
from .convert import Converted, convert, write_dataset
from .dataset import Dataset
from .describe import describe
from .environment_source import EnvironmentSource
from .mix import Mixture, mix
from .native.writer import DatasetWriter
from .opening import open_dataset
from .providers import BatchProvider, BatchProviderV2, BatchRequest, as_batch, as_provider
from .recording import DatasetError, EpisodeTable, Format, Recording
from .replay import Replay, ReplayBuffer
from .windows import Windows

__all__ = [
    "ActionBounds",
    "BatchProvider",
    "BatchProviderV2",
    "BatchRequest",
    "Converted",
    "Dataset",
    "DatasetError",
    "DatasetWriter",
    "EnvironmentSource",
    "EpisodeTable",
    "Format",
    "Mixture",
    "Recording",
    "Replay",
    "ReplayBuffer",
    "Windows",
    "as_batch",
    "as_provider",
    "convert",
    "describe",
    "mix",
    "open_dataset",
    "write_dataset",
]
