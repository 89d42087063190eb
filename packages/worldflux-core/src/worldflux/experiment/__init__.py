"""A model trained in an environment, measured, and kept in one directory: ``fit`` makes a run, ``Run`` opens one."""

from __future__ import annotations

from .fit import fit, resume_run
from .run import Evaluation, Run
from .settings import Settings, read_settings

__all__ = ["Evaluation", "Run", "Settings", "fit", "read_settings", "resume_run"]
