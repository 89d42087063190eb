"""What may be stored in a replay: one row of every stream, or latents in place of those of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from worldflux.core.errors import BufferError, ShapeMismatchError, did_you_mean

from ..row import FLAGS
from .layout import Field, check_names, check_value

if TYPE_CHECKING:
    from worldflux.envs import Step


def check_row(
    step: Step,
    action: np.ndarray,
    latents: Mapping[str, Any] | None,
    layout: Mapping[str, Field],
    *,
    observations: Mapping[str, object],
    known_latents: Mapping[str, object],
    streams: int,
    number: int,
) -> dict[str, np.ndarray]:
    """Return a row of every stream as arrays ``[streams, …]`` by the names of the layout.

    Raises:
        BufferError: names, dtypes or flags are wrong, or a number is not finite; ShapeMismatchError: shapes are.
    """
    if not isinstance(getattr(step, "obs", None), Mapping):
        raise BufferError(f"step is a {type(step).__name__}, expected a worldflux.envs.Step with obs by name")
    if not isinstance(latents, Mapping | None):
        raise BufferError(f"latents is a {type(latents).__name__}, expected arrays by name")
    check_names("observation", step.obs, observations)
    check_names("latent", latents or {}, known_latents)
    given = {f"obs/{name}": value for name, value in step.obs.items()}
    given |= {"action": action, "reward": step.reward} | {flag: getattr(step, flag) for flag in FLAGS}
    given |= {f"latent/{name}": value for name, value in (latents or {}).items()}
    row = {name: check_value(name, given[name], field, streams, number) for name, field in layout.items()}
    if (row["is_terminal"] & ~row["is_last"]).any():
        raise BufferError(f"row {number} is_terminal but not is_last: a terminal row ends its episode")
    return row


def check_begins(is_first: np.ndarray, must_begin: np.ndarray, *, number: int) -> None:
    """Raise BufferError where an episode must begin and does not."""
    if (must_begin & ~is_first).any():
        env = int(np.argmax(must_begin & ~is_first))
        raise BufferError(
            f"row {number} of environment {env} must be is_first: "
            + ("the row before it was is_last" if number else "an episode begins with such a row")
        )


def check_latent(name: str, value: Tensor, layout: Mapping[str, Field], batch: tuple[int, ...]) -> Tensor:
    """Return latents ``[B, T', …]`` of the last rows of a batch ``[B, T]``. Raises BufferError, ShapeMismatchError."""
    known = [key.removeprefix("latent/") for key in layout if key.startswith("latent/")]
    if name not in known:
        raise BufferError(f"unknown latent {name!r}, stored are {known}.{did_you_mean(name, known)}")
    field, shape = layout[f"latent/{name}"], tuple(value.shape)
    steps = shape[1] if len(shape) > 1 else 0
    if shape != (batch[0], steps, *field.shape) or not 0 < steps <= batch[1]:
        raise ShapeMismatchError(
            f"latent {name!r} does not fit the batch",
            expected=(batch[0], f"1..{batch[1]}", *field.shape),
            got=shape,
        )
    return value
