"""Training: options, the trainer, callbacks, and checkpoints that a run can go on from."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "TrainingConfig": "config",
    "Trainer": "trainer",
    "CollectConfig": "collect",
    "environment_source": "collect",
    "train": "collect",
    "Callback": "callbacks",
    "CheckpointCallback": "callbacks",
    "CollapseMonitor": "collapse",
    "CollapseWarning": "collapse",
    "EarlyStopping": "callbacks",
    "EvalCallback": "evaluation",
    "JSONLCallback": "callbacks",
    "ProgressCallback": "progress",
    "find_checkpoint": "checkpoint",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
