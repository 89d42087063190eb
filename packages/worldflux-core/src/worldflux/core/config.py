"""The configuration every family's config extends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from .errors import ConfigurationError, ContractValidationError, did_you_mean
from .fields import Count, Field, Fields, Positive, option_names, renamed
from .registry import ModelEntry, WorldModelRegistry
from .spec import ActionSpec, ModalityKind, ModalitySpec, modality

ConfigT = TypeVar("ConfigT", bound="WorldModelConfig")


@dataclass
class WorldModelConfig(Fields):
    """What is observed, what can be done, and how training starts; families add their sizes.

    Give ``obs_shape`` for one tensor (images ``[C, H, W]``) or ``observation_modalities`` for several;
    ``action_dim`` with ``action_type``, or ``action_spec``. After construction all four agree.
    ``seed`` seeds the initial weights and the model's own generator. ``earlier_names`` leads from names that fields had
    in earlier versions to those of today; both are taken everywhere. Raises ConfigurationError.
    """

    _unknown: ClassVar[str] = "Unknown parameter"
    model_type: str = "base"
    model_name: str = "unnamed"
    obs_shape: tuple[Count, ...] = (3, 64, 64)
    action_dim: int = 6
    action_type: str = "continuous"
    observation_modalities: dict[str, Any] = field(default_factory=dict)
    action_spec: dict[str, Any] = field(default_factory=dict)
    learning_rate: Positive = 3e-4
    grad_clip: Positive = 100.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self._normalise_observations()
            self._normalise_action()
        except (ContractValidationError, TypeError, ValueError) as error:
            raise (error if isinstance(error, ConfigurationError) else ConfigurationError(str(error))) from error

    def _normalise_observations(self) -> None:
        shape = self.obs_shape
        if not shape:
            raise ConfigurationError("obs_shape is (), expected sizes such as (3, 64, 64) or (8,)")
        given = self.observation_modalities or {"obs": {"shape": shape}}
        specs = {name: modality(name, value, default_shape=shape) for name, value in given.items()}
        for name, spec in specs.items():
            _refuse_channels_last(name, spec)
        self.observation_modalities = {
            name: {"kind": spec.kind.value, "shape": spec.shape, "dtype": spec.dtype} for name, spec in specs.items()
        }
        self.obs_shape = specs["obs"].shape if "obs" in specs else next(iter(specs.values())).shape

    def _normalise_action(self) -> None:
        given = dict(self.action_spec)
        known = ("kind", "dim", "discrete", "num_actions", "parts")
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigurationError(f"unknown action_spec key {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
        kind = given.get("kind", self.action_type)
        dim = given.get("dim", given.get("num_actions") or self.action_dim) if kind != "none" else 0
        if kind not in ("none", "text", "multi") and (isinstance(dim, bool) or not isinstance(dim, int) or dim <= 0):
            raise ConfigurationError(f"action_dim must be a positive integer for {kind!r} actions, got {dim!r}")
        discrete = given.get("discrete", kind == "discrete")
        classes = given.get("num_actions") or (dim if discrete else None)
        spec = ActionSpec(kind, dim, discrete, classes, tuple(given.get("parts", ())))
        self.action_spec = {name: value for name, value in asdict(spec).items() if name != "parts" or value}
        self.action_type, self.action_dim = spec.kind, spec.dim

    @property
    def modalities(self) -> dict[str, ModalitySpec]:
        """The observations as specs, by name."""
        return {name: modality(name, value) for name, value in self.observation_modalities.items()}

    @property
    def actions(self) -> ActionSpec:
        """The action as a spec."""
        return ActionSpec(**{**self.action_spec, "parts": tuple(self.action_spec.get("parts", ()))})

    @classmethod
    def from_size(cls: type[ConfigT], size: str, **overrides: Any) -> ConfigT:
        """Return the config called ``size``; families registered in a script may override this with their sizes."""
        return cls.from_dict({"model_name": size}, overrides)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_dict(cls: type[ConfigT], *layers: Mapping[str, Any]) -> ConfigT:
        """Build a config from data, earlier names included; later layers win. Raises ConfigurationError."""
        return cls(**{name: value for layer in layers for name, value in renamed(cls, layer).items()})

    def with_overrides(self: ConfigT, **overrides: Any) -> ConfigT:
        """Return a changed copy; None keeps a value. Raises ConfigurationError for unknown fields or wrong types."""
        changes = {name: value for name, value in overrides.items() if value is not None}
        data = {name: getattr(self, name) for name in option_names(type(self))}
        if "obs_shape" in changes and "observation_modalities" not in changes:
            data["observation_modalities"] = {}
        if {"action_dim", "action_type"} & set(changes) and "action_spec" not in changes:
            data["action_spec"] = {}
        return self.from_dict(data, changes)

    def save(self, path: str | Path) -> None:
        """Write ``config.json`` into a folder (or to the given .json file). Raises CheckpointError."""
        files = WorldModelRegistry.reach("integration", "files")
        files.write_json(files.inside(path, "config.json"), self.to_dict())

    @classmethod
    def load(cls: type[ConfigT], path: str | Path) -> ConfigT:
        """Read a config written by ``save``. Raises CheckpointError if it is missing or not JSON."""
        files = WorldModelRegistry.reach("integration", "files")
        return cls.from_dict(files.read_json(files.inside(path, "config.json")))


def config_class_of(entry: ModelEntry) -> type[WorldModelConfig]:
    """The config class of a registered family."""
    return entry.config_class or WorldModelConfig


def _refuse_channels_last(name: str, spec: ModalitySpec) -> None:
    shape = spec.shape
    if spec.kind is ModalityKind.IMAGE and (len(shape) != 3 or (shape[2] in (1, 3, 4) and min(shape[:2]) > 4)):
        raise WorldModelRegistry.reach("integration", "words.options").no_image(name, shape)
