"""What a replay is made of: its options, the arrays of a row, and both checked at the door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from worldflux.core.errors import BufferError, ConfigurationError, ShapeMismatchError, did_you_mean
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.words.counts import counted

from ..memory import in_bytes, parse_bytes
from ..row import FLAGS, LARGE, check_specs, check_whole


@dataclass(frozen=True)
class Field:
    """One array of the storage: the shape and dtype of a row."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def row_layout(
    obs_spec: Mapping[str, ModalitySpec],
    action_spec: ActionSpec,
    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] | None,
) -> dict[str, Field]:
    """Return every array of a row by name: ``obs/…``, ``action``, ``reward``, the three flags, ``latent/…``."""
    if not obs_spec:
        raise ConfigurationError("obs_spec is empty: a replay stores at least one observation")
    row = {f"obs/{name}": _field(name, spec.shape, spec.dtype) for name, spec in obs_spec.items()}
    row["action"] = Field((action_spec.dim,), np.dtype(np.float32))
    row["reward"] = Field((), np.dtype(np.float32))
    row.update({flag: Field((), np.dtype(np.bool_)) for flag in FLAGS})
    for name, (shape, dtype) in (latent_spec or {}).items():
        row[f"latent/{name}"] = _field(name, shape, dtype)
    return row


def _field(name: str, shape: tuple[int, ...], dtype: str) -> Field:
    try:
        return Field(tuple(shape), np.dtype(dtype))
    except TypeError:
        raise ConfigurationError(f"{name!r} has dtype {dtype!r}, which numpy does not know") from None


def kept_as(
    obs_spec: Mapping[str, ModalitySpec],
    action_spec: ActionSpec,
    latent_spec: Mapping[str, tuple[tuple[int, ...], str]] | None,
    frame_stacks: Mapping[str, int] | None,
) -> tuple[dict[str, Field], dict[str, int]]:
    """Return the arrays as they are kept, a stack ``obs/NAME`` as its newest frame ``frames/NAME``, and the stacks.

    Raises ConfigurationError for what does not say what rows hold.
    """
    check_specs(obs_spec, action_spec)
    stacks = check_stacks(frame_stacks, obs_spec)
    row = row_layout(obs_spec, action_spec, latent_spec)
    return dict(_stored(name, field, stacks) for name, field in row.items()), stacks


def _stored(name: str, field: Field, stacks: Mapping[str, int]) -> tuple[str, Field]:
    image = name.removeprefix("obs/")
    if name == image or image not in stacks:
        return name, field
    channels, *size = field.shape
    return f"frames/{image}", Field((channels // stacks[image], *size), field.dtype)


def record_dtype(stored: Mapping[str, Field]) -> np.dtype:
    """Return the small arrays of a row as one record, so that a sequence is one stretch of memory and not several."""
    small = {name: field for name, field in stored.items() if not alone(name, field)}
    return np.dtype([(name, field.dtype, field.shape) for name, field in small.items()], align=True)


def alone(name: str, field: Field) -> bool:
    """Whether an array is stored by itself: large ones, and frames, of which there are some more than rows."""
    return field.nbytes >= LARGE or name.startswith("frames/")


def earlier_frames(name: str, stacks: Mapping[str, int]) -> int:
    """Return the frames that are kept from before the oldest row, whose stack reaches so far back."""
    return stacks[name.removeprefix("frames/")] - 1 if name.startswith("frames/") else 0


def row_bytes(stored: Mapping[str, Field]) -> int:
    """Return the bytes a row takes."""
    return record_dtype(stored).itemsize + sum(field.nbytes for name, field in stored.items() if alone(name, field))


def storage_bytes(stored: Mapping[str, Field], stacks: Mapping[str, int], *, rows: int, streams: int) -> int:
    """Return the bytes of ``rows`` rows of each stream."""
    earlier = sum(earlier_frames(name, stacks) * field.nbytes for name, field in stored.items())
    return streams * (rows * row_bytes(stored) + earlier)


def rows_within(text: str, stored: Mapping[str, Field], stacks: Mapping[str, int], *, streams: int) -> int:
    """Return the rows, over all streams, that a size such as ``"8GB"`` holds.

    Raises ConfigurationError if there are none, or this is no size.
    """
    check_whole("num_streams", streams, 1)
    size, row = parse_bytes(text, name="capacity"), row_bytes(stored)
    rows = (size // streams - storage_bytes(stored, stacks, rows=0, streams=1)) // row
    if rows < 1:
        raise ConfigurationError(
            f"{in_bytes(size)} hold no row of {row:,} bytes for each of {counted(streams, 'stream')}: give the replay "
            "more"
        )
    return rows * streams


def check_names(kind: str, given: Mapping[str, object], expected: Mapping[str, object]) -> None:
    """Raise BufferError unless exactly the expected names are given."""
    extra, missing = sorted(set(given) - set(expected)), sorted(set(expected) - set(given))
    if extra:
        raise BufferError(
            f"unknown {kind} {extra[0]!r}, expected {sorted(expected)}.{did_you_mean(extra[0], expected)}"
        )
    if missing:
        raise BufferError(f"missing {kind} {missing[0]!r}, expected {sorted(expected)}, got {sorted(given)}")


def check_value(name: str, value: object, field: Field, num: int, row: int) -> np.ndarray:
    """Return ``value`` as an array ``[num, *field.shape]`` of the field's dtype.

    Raises:
        ShapeMismatchError: another shape. BufferError: a dtype that does not convert, or a number that is not finite;
        the message names the array, the environment and the row.
    """
    array = np.asarray(value)
    if array.shape != (num, *field.shape):
        hint = ""
        if len(field.shape) == 3 and array.shape == (num, *field.shape[1:], field.shape[0]):
            hint = "; images are stored channels first [C, H, W], this one has its channels last"
        raise ShapeMismatchError(
            f"{name!r} at row {row} has the wrong shape{hint}", expected=(num, *field.shape), got=array.shape
        )
    if array.dtype != field.dtype:
        if not np.can_cast(array.dtype, field.dtype, "same_kind"):
            raise BufferError(
                f"{name!r} at row {row} has dtype {array.dtype}, expected {field.dtype}: convert it before adding"
            )
        with np.errstate(over="ignore"):  # what overflows is infinite and refused below
            given, array = array, array.astype(field.dtype)
        if field.dtype.kind in "iu" and not np.array_equal(given, array):
            worst = given[given != array].flat[0]
            raise BufferError(
                f"{name!r} at row {row} holds {worst}, more than {field.dtype} can: give it a wider dtype"
            )
    if field.dtype.kind == "f" and not np.isfinite(array).all():
        env = int(np.argmin(np.isfinite(array).reshape(num, -1).all(axis=1)))
        bad = array[env][~np.isfinite(array[env])].flat[0]
        raise BufferError(
            f"{name!r} of environment {env} is {bad} at row {row}: nothing of this row was stored; "
            "find out why the environment gives it, or map it to a number"
        )
    return array


def check_stacks(stacks: object, obs_spec: Mapping[str, ModalitySpec]) -> dict[str, int]:
    """Return the frames of each observation that is a stack of more than one. Raises ConfigurationError for others."""
    if not isinstance(stacks, Mapping | None):
        raise ConfigurationError(f"frame_stacks is {stacks!r}, expected numbers of frames by observation")
    for name, frames in (stacks or {}).items():
        if name not in obs_spec:
            raise ConfigurationError(
                f"frame_stacks names {name!r}, the observations are {sorted(obs_spec)}.{did_you_mean(name, obs_spec)}"
            )
        check_whole(f"frame_stacks[{name!r}]", frames, 1)
        shape = obs_spec[name].shape
        if not shape or shape[0] % frames:
            raise ConfigurationError(
                f"frame_stacks[{name!r}] is {frames}, but {name!r} of shape {shape} is no stack of so many frames: "
                "the first axis is as many times the channels of one"
            )
    return {name: int(frames) for name, frames in (stacks or {}).items() if frames > 1}


def check_options(capacity: int, streams: int, length: int | None, boundary: str, online: bool, seed: int) -> None:
    """Raise ConfigurationError for options of a replay that do not exist or cannot work together."""
    for name, value in (("capacity", capacity), ("num_streams", streams), ("seed", seed), ("sequence_length", length)):
        if value is not None or name != "sequence_length":
            check_whole(name, value, 0)
    if streams < 1 or capacity < streams:
        raise ConfigurationError(f"capacity {capacity} must be at least num_streams {streams}, and that at least 1")
    if not isinstance(boundary, str) or boundary not in ("cross", "within"):
        raise ConfigurationError(f"boundary must be 'cross' or 'within', got {boundary!r}")
    if online and length is None:
        raise ConfigurationError("online=True needs sequence_length: the length of the blocks that are given once")
    if length is not None and not 1 <= length <= capacity // streams:
        raise ConfigurationError(
            f"sequence_length {length} does not fit: each of the {counted(streams, 'stream')} keeps "
            f"{counted(capacity // streams, 'row')}; "
            f"capacity must be at least {max(length, 1) * streams}"
        )
