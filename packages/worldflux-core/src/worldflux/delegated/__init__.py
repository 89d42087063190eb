"""Official programs that train in a process of their own, with an interpreter and a checkout the user names.

A family's adapter derives from ``SubprocessBackend`` and says what the program needs and how it is called; a ``Job`` is
one run of it: a directory that any process can follow, and a supervisor that outlives the one that submitted it.
"""

from __future__ import annotations

from .backend import SubprocessBackend, launch
from .handle import OfficialBackendHandle
from .job import Job, JobStatus
from .processes import program_environment
from .program import MetricsSource, Program, Request

__all__ = [
    "Job",
    "JobStatus",
    "MetricsSource",
    "OfficialBackendHandle",
    "Program",
    "Request",
    "SubprocessBackend",
    "launch",
    "program_environment",
]
