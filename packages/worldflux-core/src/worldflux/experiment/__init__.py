"""A model trained in an environment or from data and measured: ``fit`` makes a run, ``Run`` opens its directory."""

from __future__ import annotations

from .collecting import Collected, collect
from .fit import fit, resume_run
from .judging import imagine_recorded, judge, save_judgement
from .results import Evaluation, Learned
from .run import Run
from .settings import Settings, read_settings

__all__ = [
    "Collected",
    "Evaluation",
    "Learned",
    "Run",
    "Settings",
    "collect",
    "fit",
    "imagine_recorded",
    "judge",
    "read_settings",
    "resume_run",
    "save_judgement",
]
