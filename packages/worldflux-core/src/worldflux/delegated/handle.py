"""A handle on a model that runs in an official program instead of in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.errors import ConfigurationError
from ..core.registry import NATIVE_BACKEND, WorldModelRegistry

RUN_DIR = "./outputs"  # as TrainingConfig.output_dir


@dataclass(frozen=True)
class OfficialBackendHandle:
    """Names a backend and the model it is to train; ``submit`` starts a job, which any process can follow.

    ``run_dir`` is the job's directory, by which it is found. Each call raises ConfigurationError if the backend has no
    adapter, or the directory holds no job. What they return is told in ``worldflux.delegated``: a ``Job``, or a
    ``JobStatus``.
    """

    backend: str
    model_id: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def submit(self, *, task: str, run_dir: str | os.PathLike[str] = RUN_DIR, **asked: Any) -> Any:
        """Start the official program on ``task`` and return its job, which goes on without this process.

        ``asked`` are ``env_steps``, ``python``, ``checkout``, ``training``, ``options`` and ``env`` of
        ``worldflux.delegated.launch``.
        """
        return self._adapter().submit(self, task=task, run_dir=run_dir, **asked)

    def job(self, *, run_dir: str | os.PathLike[str] = RUN_DIR) -> Any:
        """The job in a directory."""
        return self._adapter().job(run_dir)

    def status(self, *, run_dir: str | os.PathLike[str] = RUN_DIR) -> Any:
        """How the job stands now."""
        return self.job(run_dir=run_dir).status()

    def logs(self, lines: int | None = None, *, run_dir: str | os.PathLike[str] = RUN_DIR) -> str:
        """What the program has printed, or its last ``lines``."""
        return str(self.job(run_dir=run_dir).logs(lines))

    def cancel(self, grace: float = 10.0, *, run_dir: str | os.PathLike[str] = RUN_DIR) -> Any:
        """End the program and all its processes (after ``grace`` seconds by force); harmless once it is over."""
        return self.job(run_dir=run_dir).cancel(grace)

    def wait(self, timeout: float | None = None, *, run_dir: str | os.PathLike[str] = RUN_DIR) -> Any:
        """The status once the job is over, or as it is after ``timeout`` seconds."""
        return self.job(run_dir=run_dir).wait(timeout)

    def _adapter(self) -> Any:
        if self.is_native_torch:
            raise ConfigurationError(f"{self.model_id!r} is trained in this process: Trainer(model).train(source)")
        adapter = WorldModelRegistry.reach("backend", self.backend)()
        if not (hasattr(adapter, "submit") and hasattr(adapter, "job")):
            what = "expected a worldflux.delegated.SubprocessBackend"
            raise ConfigurationError(f"the adapter of backend {self.backend!r} is {adapter!r}, {what}")
        return adapter

    @property
    def is_native_torch(self) -> bool:
        """Whether the model runs in this process."""
        return self.backend == NATIVE_BACKEND

    @property
    def adapter_id(self) -> str:
        """The backend's adapter."""
        return str(self.metadata.get("adapter_id", self.backend))

    def with_metadata(self, **metadata: Any) -> OfficialBackendHandle:
        """Return a handle with further metadata."""
        return replace(self, metadata={**self.metadata, **metadata})

    def to_dict(self) -> dict[str, Any]:
        """Return the handle as JSON-able data."""
        return {"backend": self.backend, "model_id": self.model_id, "metadata": dict(self.metadata)}


def handle_of(preset: Any, declared: Any, *, accepted: Sequence[Any], about: dict[str, Any]) -> OfficialBackendHandle:
    """The handle on the program that a backend, as its manifest declares it, runs a preset with.

    ``accepted`` are the presets that it runs, none for all; ``about`` is kept with the handle. Raises
    ConfigurationError for another preset.
    """
    if accepted and (preset.family, preset.size) not in [(other.family, other.size) for other in accepted]:
        raise ConfigurationError(f"backend {declared.id!r} runs {', '.join(declared.models)}, not {preset.model_id!r}")
    kind = {"execution_kind": "backend_handle", "adapter_id": declared.id, "backend_profile": declared.profile}
    return OfficialBackendHandle(declared.id, preset.model_id, kind | about)
