"""The replay: a ring of rows per stream, in memory, on disk or on a device, and how it is filled, sampled and saved."""

from .buffer import ReplayBuffer
from .filling import fill_replay
from .ring import INDEX_KEY, LatentSpec, Replay
from .tiers import as_numpy

__all__ = ["INDEX_KEY", "LatentSpec", "Replay", "ReplayBuffer", "as_numpy", "fill_replay"]
