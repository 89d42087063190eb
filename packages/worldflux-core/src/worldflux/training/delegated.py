"""Training that an official program does: the same ``Trainer`` call, another program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigurationError
from ..delegated import Job, JobStatus, OfficialBackendHandle
from ..delegated.job import GRACE
from ..files import expanded
from .checks import check_config
from .config import TrainingConfig


class Delegating:
    """What a trainer does for a handle on an official program: submits a job, and follows the one in its run directory.

    The run directory is ``config.output_dir``; of the other fields of ``config`` those that were set go to the program,
    and one it cannot follow is refused. For a model of this process each call raises ConfigurationError.
    """

    handle: OfficialBackendHandle | None = None
    config: TrainingConfig
    run_dir: Path
    status: Any

    def take_handle(self, handle: OfficialBackendHandle, config: TrainingConfig | None, *others: Any) -> None:
        """Work for an official program. Raises ConfigurationError for what only models of this process take."""
        if any(value is not None for value in others):
            raise ConfigurationError(
                f"a job of backend {handle.backend!r} takes a TrainingConfig only: callbacks, optimizer and the like "
                "are for models trained in this process; the program's own settings go into submit(options={...})"
            )
        check_config(config)
        self.handle, self.config = handle, config or TrainingConfig()
        self.run_dir = expanded(self.config.output_dir)
        self.status = self._job_status

    def submit(self, **asked: Any) -> Job:
        """Start the official program, as ``handle.submit(task=..., env_steps=..., ...)`` does, in the run directory."""
        given = {name: getattr(self.config, name) for name in sorted(self.config.given - {"output_dir"})}
        return self._official().submit(run_dir=self.run_dir, training=given, **asked)  # type: ignore[no-any-return]

    @property
    def job(self) -> Job:
        """The job in the run directory. Raises ConfigurationError if there is none yet."""
        self._official()
        return Job.open(self.run_dir)

    def logs(self, lines: int | None = None) -> str:
        """What the program has printed, or its last ``lines``."""
        return self.job.logs(lines)

    def cancel(self, grace: float = GRACE) -> JobStatus:
        """End the program and all its processes (after ``grace`` seconds by force); harmless once it is over."""
        return self.job.cancel(grace)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Return the status once the job is over, or as it is after ``timeout`` seconds."""
        return self.job.wait(timeout)

    def refuse_handle(self) -> None:
        """Raises ConfigurationError: an official program makes its own environment; it takes ``submit(task=...)``."""
        if self.handle is not None:
            raise ConfigurationError(
                f"{self.handle.model_id!r} is trained by the official program of backend {self.handle.backend!r}: "
                "call submit(task=...), or leave backend out of create_world_model to train it here"
            )

    def _job_status(self) -> JobStatus:
        return self.job.status()

    def _official(self) -> OfficialBackendHandle:
        if self.handle is None:
            raise ConfigurationError(
                "this model is trained in this process: call train(source); "
                "submit, logs and cancel are for handles, create_world_model(..., backend=...)"
            )
        return self.handle
