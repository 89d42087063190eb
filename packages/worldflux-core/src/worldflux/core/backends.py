"""A handle on a model that runs in an official program instead of in this process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

NATIVE_BACKEND = "native_torch"


@dataclass(frozen=True)
class OfficialBackendHandle:
    """Names a backend and the model it is to train; ``Trainer(handle)`` has submit, status, logs and cancel for it."""

    backend: str
    model_id: str
    metadata: dict[str, Any] = field(default_factory=dict)

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
