"""Training that an official program does: the same ``Trainer`` call, another program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..core.backends import OfficialBackendHandle
from ..core.errors import ConfigurationError
from ..core.registry import WorldModelRegistry
from ..delegated import Job, JobStatus, SubprocessBackend, launch
from ..delegated.job import GRACE
from .config import TrainingConfig


class DelegatedTrainer:
    """What ``Trainer(handle, config)`` is: submits a job to the handle's backend, and follows the one in its directory.

    The run directory is ``config.output_dir``; of the other fields of ``config`` those that were set go to the program,
    and one it cannot follow is refused. Any process that names the directory can follow, cancel and read the job.
    """

    def __init__(
        self, handle: OfficialBackendHandle, config: TrainingConfig | None = None, *others: Any, **options: Any
    ) -> None:
        if any(value is not None for value in (*others, *options.values())):
            raise ConfigurationError(
                f"a job of backend {handle.backend!r} takes a TrainingConfig only: callbacks, optimizer and the like "
                "are for models trained in this process; the program's own settings go into submit(options={...})"
            )
        self.handle, self.config = handle, config or TrainingConfig()
        self.run_dir = Path(self.config.output_dir)

    def submit(
        self,
        *,
        task: str,
        env_steps: int | None = None,
        python: str | os.PathLike[str] | None = None,
        checkout: str | os.PathLike[str] | None = None,
        options: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Job:
        """Start the official program on ``task`` for ``env_steps`` environment steps; the job goes on without us.

        ``python`` (its interpreter) and ``checkout`` (its folder) default to the backend's environment variables.
        ``options`` are the program's own settings, ``env`` environment variables for it.

        Raises:
            ConfigurationError: the backend has no adapter; interpreter, checkout or a module is missing; a setting
                cannot be followed; or the run directory is taken. Then nothing was started or written.
            TrainingError: the supervisor itself did not start.
        """
        backend = WorldModelRegistry.backend(self.handle.backend)()
        if not isinstance(backend, SubprocessBackend):
            raise ConfigurationError(
                f"the adapter of backend {self.handle.backend!r} is {backend!r}, "
                "expected a worldflux.delegated.SubprocessBackend"
            )
        given = {name: getattr(self.config, name) for name in sorted(self.config.given - {"output_dir"})}
        return launch(
            backend, self.handle, run_dir=self.run_dir, task=task, env_steps=env_steps, python=python,
            checkout=checkout, training=given, options=options, env=env,
        )  # fmt: skip

    @property
    def job(self) -> Job:
        """The job in the run directory. Raises ConfigurationError if there is none yet."""
        return Job.open(self.run_dir)

    def status(self) -> JobStatus:
        """How the job stands now."""
        return self.job.status()

    def logs(self, lines: int | None = None) -> str:
        """What the program has printed, or its last ``lines``."""
        return self.job.logs(lines)

    def cancel(self, grace: float = GRACE) -> JobStatus:
        """End the program and all its processes (after ``grace`` seconds by force); harmless once it is over."""
        return self.job.cancel(grace)

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Return the status once the job is over, or as it is after ``timeout`` seconds."""
        return self.job.wait(timeout)

    def train(self, *_: Any, **__: Any) -> NoReturn:
        """Raises ConfigurationError: an official program makes its own environment; it takes ``submit(task=...)``."""
        raise ConfigurationError(
            f"{self.handle.model_id!r} is trained by the official program of backend {self.handle.backend!r}: "
            "call submit(task=...), or leave backend out of create_world_model to train it here"
        )


class Native:
    """What a trainer of a model in this process answers to the calls for official programs."""

    def submit(self, *_: Any, **__: Any) -> NoReturn:
        """Raises ConfigurationError: a model in this process is trained by ``train(source)``."""
        raise ConfigurationError(
            "this model is trained in this process: call train(source); "
            "submit, logs and cancel are for handles, create_world_model(..., backend=...)"
        )

    logs = cancel = submit
