"""Whether the predictions of an output fit each other and what is stated of them."""

from __future__ import annotations

from torch import Tensor

from worldflux.core.errors import ValidationError
from worldflux.core.output import ModelOutput


def check(output: ModelOutput) -> None:
    """Raise what ``ModelOutput.validate`` raises."""
    stated, sizes = output.prediction_spec.tensors if output.prediction_spec else {}, set()
    if missing := sorted(set(stated) - set(output.predictions)):
        raise ValidationError(f"predictions {missing} are stated, but there are only {sorted(output.predictions)}")
    for name, value in output.predictions.items():
        if not isinstance(value, Tensor):
            raise ValidationError(f"prediction {name!r} is a {type(value).__name__}, expected a Tensor")
        sizes.add(value.shape[0] if value.ndim else 1)
    if len(sizes) > 1:
        raise ValidationError(f"predictions have different batch sizes: {sorted(sizes)}")
