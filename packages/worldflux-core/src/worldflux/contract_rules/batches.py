"""Whether the fields of a batch fit each other."""

from __future__ import annotations

from collections.abc import Mapping

from worldflux.core.batch import EARLIER, Batch, root
from worldflux.core.errors import ShapeMismatchError, ValidationError
from worldflux.core.spec import SequenceFieldSpec


def check(batch: Batch, *, strict_time: bool, specs: Mapping[str, SequenceFieldSpec]) -> None:
    """Raise what ``Batch.validate`` raises."""
    tensors = dict(batch.tensors())
    names = {*tensors, *map(root, tensors)}
    if batch.strict_layout and (unknown := sorted(set(batch.layouts) - names)):
        raise ValidationError(f"Unknown layout field {unknown[0]!r}, the batch has {sorted(names)}")
    variable = {*batch.lengths, *(EARLIER.get(name, name) for name, spec in specs.items() if spec.variable_length)}
    size, time = batch.batch_size, None
    for name, value in tensors.items():
        layout, field = batch.layout_of(name), root(name)
        axis = layout.find("B")
        if axis >= 0 and value.shape[axis : axis + 1] != (size,):
            label = f"lengths[{name[8:]!r}]" if field == "lengths" else repr(name)
            raise ShapeMismatchError(f"{label} batch size mismatch", expected=size, got=tuple(value.shape))
        if strict_time and layout.startswith("BT") and value.ndim >= 2 and not {name, field} & variable:
            other, steps = time = time or (name, value.shape[1])
            if value.shape[1] != steps:
                message = f"time dimension mismatch between {other!r} and {name!r}"
                raise ShapeMismatchError(message, expected=steps, got=value.shape[1])
        lengths = batch.lengths.get(name, batch.lengths.get(field))
        if lengths is not None and value.ndim >= 2 and int(lengths.max()) > value.shape[1]:
            raise ValidationError(f"the lengths of {name!r} exceed the {value.shape[1]} stored steps")
