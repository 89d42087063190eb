"""What a model takes and gives: modalities, actions, and the whole input/output contract. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from .errors import ContractValidationError, did_you_mean
from .registry import WorldModelRegistry


class ModalityKind(str, Enum):
    """What a tensor depicts."""

    IMAGE = "image"
    VIDEO = "video"
    TEXT = "text"
    TOKENS = "tokens"
    VECTOR = "vector"
    AUDIO = "audio"
    OTHER = "other"


class Capability(str, Enum):
    """What a model can do beyond computing a loss."""

    LATENT_DYNAMICS = "latent_dynamics"
    OBS_DECODER = "obs_decoder"
    REPRESENTATION = "representation"
    REWARD_PRED = "reward_pred"
    CONTINUE_PRED = "continue_pred"
    VIDEO_PRED = "video_pred"
    TOKEN_MODEL = "token_model"
    DIFFUSION = "diffusion"
    PLANNING = "planning"
    VALUE = "value"
    POLICY = "policy"


def namespaced(key: str) -> bool:
    """Whether ``key`` has the form ``wf.<domain>.<name>``."""
    head, _, rest = key.partition(".")
    domain, _, name = rest.partition(".")
    words = domain.replace("-", "_"), name.replace("-", "_").replace(".", "_")
    return head == "wf" and all(word and word.isascii() and word.replace("_", "a").isalnum() for word in words)


@dataclass(frozen=True)
class ModalitySpec:
    """One tensor: its kind, its shape without batch and time, its dtype by name."""

    kind: ModalityKind
    shape: tuple[int, ...]
    dtype: str = "float32"
    layout: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", ModalityKind(self.kind))
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))


@dataclass(frozen=True)
class ObservationSpec:
    """Named input tensors."""

    modalities: dict[str, ModalitySpec] = field(default_factory=dict)


@dataclass(frozen=True)
class ConditionSpec:
    """Named conditioning tensors, and the extras keys a caller may send."""

    modalities: dict[str, ModalitySpec] = field(default_factory=dict)
    allowed_extra_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class StateSpec:
    """Named latent tensors."""

    tensors: dict[str, ModalitySpec] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictionSpec:
    """Named decoded tensors."""

    tensors: dict[str, ModalitySpec] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceLayout:
    """Axes of each batch field, such as ``BT...``."""

    axes_by_field: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceFieldSpec:
    """How a sequence field may vary: its layout, and whether each row of the batch has its own length."""

    layout: str | None = None
    variable_length: bool = False
    required_axes: tuple[str, ...] = ("B",)
    allow_multiple_time_axes: bool = False


@dataclass(frozen=True)
class ActionPart:
    """One named part of a composite action: ``dim`` classes if discrete, ``dim`` numbers in [-1, 1] if continuous."""

    name: str
    kind: str
    dim: int


@dataclass(frozen=True)
class ActionSpec:
    """What an action is. The contract's action tensor is flat: one-hot and continuous parts in sorted key order.

    ``parts`` is given for composite actions (``kind="multi"``); ``dim`` is then the sum of the parts' dims.
    """

    kind: str = "continuous"
    dim: int = 0
    discrete: bool = False
    num_actions: int | None = None
    parts: tuple[ActionPart, ...] = ()

    def __post_init__(self) -> None:
        parts = tuple(part if isinstance(part, ActionPart) else ActionPart(**part) for part in self.parts)
        object.__setattr__(self, "parts", tuple(sorted(parts, key=lambda part: part.name)))
        if self.kind == "multi":
            object.__setattr__(self, "dim", sum(part.dim for part in parts))
        WorldModelRegistry.reach("integration", "contract_rules.actions").check(self)
        if self.kind == "discrete" and self.num_actions is not None:  # the flat action is one-hot
            object.__setattr__(self, "dim", self.num_actions)

    def leaves(self) -> tuple[ActionPart, ...]:
        """The parts in the order of the flat vector; a simple action is one part called ``action``."""
        if self.parts:
            return self.parts
        return () if self.kind == "none" else (ActionPart("action", self.kind, self.dim),)

    def slices(self) -> Iterator[tuple[ActionPart, slice]]:
        """Each part with its place in the flat vector."""
        start = 0
        for part in self.leaves():
            yield part, slice(start, start + part.dim)
            start += part.dim


@dataclass(frozen=True)
class ModelIOContract:
    """Everything a model takes and gives, as data that can be checked and fingerprinted."""

    observation_spec: ObservationSpec = field(default_factory=ObservationSpec)
    action_spec: ActionSpec = field(default_factory=ActionSpec)
    state_spec: StateSpec = field(default_factory=StateSpec)
    prediction_spec: PredictionSpec = field(default_factory=PredictionSpec)
    sequence_layout: SequenceLayout = field(default_factory=SequenceLayout)
    required_batch_keys: tuple[str, ...] = ()
    required_state_keys: tuple[str, ...] = ()
    additional_batch_fields: dict[str, ModalitySpec] = field(default_factory=dict)
    input_spec: ObservationSpec | None = None
    target_spec: ObservationSpec = field(default_factory=ObservationSpec)
    condition_spec: ConditionSpec = field(default_factory=ConditionSpec)
    action_union_spec: tuple[ActionSpec, ...] = ()
    condition_extras_schema: dict[str, ModalitySpec] = field(default_factory=dict)
    sequence_field_spec: dict[str, SequenceFieldSpec] = field(default_factory=dict)

    @property
    def effective_input_spec(self) -> ObservationSpec:
        """The inputs: ``input_spec`` if given, else ``observation_spec``."""
        return self.input_spec or self.observation_spec

    @property
    def effective_action_specs(self) -> tuple[ActionSpec, ...]:
        """The accepted actions: the union if given, else the single spec."""
        return self.action_union_spec or (self.action_spec,)

    @property
    def effective_condition_extra_keys(self) -> tuple[str, ...]:
        """Extras keys that are allowed by name or declared with a schema."""
        return tuple(dict.fromkeys((*self.condition_spec.allowed_extra_keys, *self.condition_extras_schema)))

    @property
    def effective_sequence_field_spec(self) -> Mapping[str, SequenceFieldSpec]:
        """The sequence layout as field specs, overridden by the explicit ones."""
        merged = {name: SequenceFieldSpec(layout=axes) for name, axes in self.sequence_layout.axes_by_field.items()}
        for name, spec in self.sequence_field_spec.items():
            merged[name] = replace(spec, layout=spec.layout or merged.get(name, spec).layout)
        return MappingProxyType(merged)

    def validate(self) -> None:
        """Raise ContractValidationError where the contract contradicts itself."""
        WorldModelRegistry.reach("integration", "contract_rules.contracts").check(self)

    def fingerprint(self) -> str:
        """SHA-256 of the contract's canonical JSON; equal contracts have equal fingerprints."""
        canonical = json.dumps(asdict(self), sort_keys=True, default=str, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def stated(model: Any) -> ModelIOContract:
    """The contract of what a WorldModel states; conditions with a namespaced name are extras."""
    state, read = model.state_spec(), model.condition_spec()
    extras = {name: spec for name, spec in read.modalities.items() if namespaced(name)}
    fields = {name: spec for name, spec in read.modalities.items() if name not in extras}
    return ModelIOContract(
        observation_spec=ObservationSpec(model.config.modalities),
        action_spec=model.config.actions,
        state_spec=state,
        prediction_spec=model.prediction_spec(),
        sequence_layout=SequenceLayout(dict.fromkeys(model.batch_keys, "BT...")),
        required_batch_keys=tuple(model.batch_keys),
        required_state_keys=tuple(name for name in state.tensors if name not in model.optional_state),
        condition_spec=ConditionSpec(fields, read.allowed_extra_keys),
        condition_extras_schema=extras,
    )


def modality(name: str, given: Any, *, default_shape: tuple[int, ...] = ()) -> ModalitySpec:
    """Build a ModalitySpec from a spec or a mapping with shape, kind and dtype, guessing the kind from the rank."""
    if isinstance(given, ModalitySpec):
        return given
    if not isinstance(given, Mapping):
        raise ContractValidationError(f"modality {name!r} must be a mapping with 'shape', got {type(given).__name__}")
    unknown = sorted(set(given) - {"shape", "kind", "dtype", "layout", "name"})
    if unknown:
        raise ContractValidationError(f"modality {name!r} has unknown keys {unknown}")
    shape = tuple(given.get("shape", default_shape))
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise ContractValidationError(f"modality {name!r} needs positive integer sizes, got shape {shape}")
    guess = {0: ModalityKind.VECTOR, 1: ModalityKind.VECTOR, 3: ModalityKind.IMAGE, 4: ModalityKind.VIDEO}
    kind = given.get("kind") or guess.get(len(shape), ModalityKind.OTHER)
    if kind not in [k.value for k in ModalityKind]:
        raise ContractValidationError(f"modality {name!r} has unknown kind {kind!r}.{did_you_mean(kind, ModalityKind)}")
    dtype = given.get("dtype") or ("uint8" if ModalityKind(kind) is ModalityKind.IMAGE else "float32")
    return ModalitySpec(kind, shape, dtype, given.get("layout"), given.get("name"))


def vector(*shape: int, dtype: str = "float32") -> ModalitySpec:
    """The spec of one tensor of a state or prediction, by its sizes without the batch; a number has none."""
    return ModalitySpec(ModalityKind.VECTOR, shape, dtype)


def decoded(modalities: Mapping[str, ModalitySpec]) -> dict[str, ModalitySpec]:
    """What predictions of these observations are: floats of their kinds and shapes."""
    return {name: ModalitySpec(spec.kind, spec.shape) for name, spec in modalities.items()}
