"""Whether a model's input/output contract contradicts itself."""

from __future__ import annotations

from worldflux.core.errors import ContractValidationError
from worldflux.core.spec import ModelIOContract, SequenceFieldSpec, namespaced

RESERVED_BATCH_ROOTS = frozenset(
    {"obs", "actions", "rewards", "is_first", "is_last", "is_terminal", "mask", "context", "conditions", "extras"}
    | {"inputs", "targets", "action", "next_obs", "terminations", "target"}  # earlier names and optional fields
)


def check(contract: ModelIOContract) -> None:
    """Raise ContractValidationError where the contract contradicts itself."""
    seen, shown = contract.effective_input_spec.modalities, contract.target_spec.modalities
    read = (*contract.condition_spec.modalities, *contract.effective_condition_extra_keys)
    roots = RESERVED_BATCH_ROOTS | {_root(key) for key in (*seen, *shown, *read, *contract.additional_batch_fields)}
    for key in contract.required_batch_keys:
        if _root(key) not in roots:
            raise ContractValidationError(f"Unknown required batch key {key!r}, expected a root in {sorted(roots)}")
    for key in contract.required_state_keys:
        if key not in contract.state_spec.tensors:
            raise ContractValidationError(f"required state key {key!r} is not in the state spec")
    for name, spec in contract.effective_sequence_field_spec.items():
        if _root(name) not in roots:
            raise ContractValidationError(f"Unknown sequence layout field {name!r}, expected one of {sorted(roots)}")
        _validate_layout(name, spec)
    bad = [key for key in contract.effective_condition_extra_keys if not namespaced(key)]
    if bad:
        raise ContractValidationError(f"invalid namespaced extra key {bad[0]!r}, expected wf.<domain>.<name>")
    kinds = [spec.kind for spec in contract.action_union_spec]
    if len(set(kinds)) != len(kinds):
        raise ContractValidationError(f"action_union_spec has duplicate kinds: {kinds}")
    if kinds and contract.action_spec.kind not in kinds:
        raise ContractValidationError(f"action_union_spec {kinds} must include {contract.action_spec.kind!r}")


def _validate_layout(name: str, spec: SequenceFieldSpec) -> None:
    if spec.layout is None:
        if spec.variable_length:
            raise ContractValidationError(f"sequence field {name!r} has variable length but no layout")
        return
    missing = [axis for axis in {"B", *spec.required_axes} if axis not in spec.layout]
    if not spec.layout or missing:
        raise ContractValidationError(f"sequence layout {spec.layout!r} of {name!r} must include {sorted(missing)}")
    if spec.variable_length and "T" not in spec.layout:
        raise ContractValidationError(f"variable-length field {name!r} needs a time axis T in {spec.layout!r}")
    if spec.layout.count("T") > 1 and not spec.allow_multiple_time_axes:
        raise ContractValidationError(f"sequence layout {spec.layout!r} of {name!r} has several time axes")


def _root(key: str) -> str:
    """``extras`` for ``extras.wf.x.y`` and ``obs`` for ``obs:image``."""
    return key.split(".", 1)[0].split(":", 1)[0]
