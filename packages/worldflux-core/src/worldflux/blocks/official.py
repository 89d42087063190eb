"""Weights of another implementation as ours: strict about names and shapes, nothing half done."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from worldflux.core.errors import CheckpointError, ConfigurationError, did_you_mean
from worldflux.files import opened


@dataclass(frozen=True)
class ImportReport:
    """What came of an import of official weights."""

    copied: dict[str, str]  # official name -> ours
    parameters: int  # numbers in all that was copied
    ignored: tuple[str, ...]  # official names that were left out, as asked for
    untouched: tuple[str, ...]  # names of our state that no official weight belongs to


def plain_file(file: Path) -> BinaryIO:
    """Open a file that the user named to read it; what is no plain file is not waited for. Raises OSError."""
    return opened(file, follow=True)


def read_torch(file: Path, *, example: str) -> Any:
    """What a file of ``torch.save`` holds, read with ``weights_only=True``; tensors stay in the file until used.

    Raises CheckpointError where there is no such file (``example`` is what one is called), or it is damaged or
    compressed, or has tensors that are no plain ones or claim more numbers than the file has bytes for.
    """
    if not file.is_file():
        raise CheckpointError(f"{file} is no file: give an official checkpoint such as {example}")
    try:
        with plain_file(file) as handle:
            size = _whole(handle)
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        for name, value in _tensors_in(content):
            _refuse_inflated(name, value, size)
    except Exception as error:  # what reading a damaged file can raise is anything
        raise CheckpointError(f"{file} cannot be read as an official checkpoint: {error}") from error
    return content


def _whole(handle: BinaryIO) -> int:
    """The bytes of an archive as torch writes it: not compressed, and unaltered, which torch itself does not check."""
    with zipfile.ZipFile(handle) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which no checkpoint of torch is")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"its part {damaged!r} was altered")
    return handle.seek(0, 2)


def _tensors_in(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested mappings and lists, by its dotted name."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors_in(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from _tensors_in(value, f"{name}.{index}" if name else str(index))


def _refuse_inflated(name: str, value: Tensor, size: int) -> None:
    """Raise ValueError for a tensor that is no plain one, or claims more numbers than the file has bytes for."""
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.device.type != "cpu":
        raise ValueError(f"tensor {name!r} is {value.dtype}, {value.layout}: expected plain real numbers")
    if value.numel() * value.element_size() > min(size, value.untyped_storage().nbytes()):
        raise ValueError(f"tensor {name!r} of shape {tuple(value.shape)} is larger than the file")


def load_official(
    model: nn.Module,
    official: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    convert: Callable[[str, Tensor], Tensor] | None = None,
    ignored: tuple[str, ...] = (),
) -> ImportReport:
    """Copy official weights (arrays or tensors) into a model, by ``names``, from theirs to those of our state.

    Args:
        model: what is written into, only when everything fits.
        official: official name -> array or tensor.
        names: every official name that there must be -> our name in ``model.state_dict()``.
        convert: ``(official name, value)`` -> the value in our layout, such as a permutation of axes.
        ignored: beginnings of official names that are left out.

    Raises:
        ConfigurationError: names are missing, unknown or not the model's, or shapes differ.
    """
    given = {name: value for name, value in official.items() if not ignored or not name.startswith(ignored)}
    unknown, missing = sorted(set(given) - set(names)), sorted(set(names) - set(given))
    if missing:
        near = did_you_mean(missing[0], unknown)
        raise ConfigurationError(f"official weights lack {missing[:3]} ({len(missing)} in all).{near}")
    if unknown:
        near = did_you_mean(unknown[0], names)
        raise ConfigurationError(
            f"official weights hold {unknown[:3]} ({len(unknown)} in all), which belong to no part of the model.{near}"
        )
    target, found = model.state_dict(), {}
    for name, own in names.items():
        if own not in target:
            raise ConfigurationError(f"{name!r} goes to {own!r}, which the model lacks.{did_you_mean(own, target)}")
        value = _tensor(given[name])
        found[own] = value if convert is None else convert(name, value)
        if found[own].shape != target[own].shape:
            got, here, wanted = (tuple(part.shape) for part in (value, found[own], target[own]))
            read = f", read as {here}" if here != got else ""
            raise ConfigurationError(
                f"official weight {name!r} has shape {got}{read}, the settings and the other weights make it {wanted}"
            )
    with torch.no_grad():
        for own, value in found.items():
            target[own].copy_(value)
    return ImportReport(
        copied=dict(names),
        parameters=sum(value.numel() for value in found.values()),
        ignored=tuple(sorted(set(official) - set(given))),
        untouched=tuple(name for name in target if name not in found),
    )


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    # numpy has no bfloat16 of its own: what others registered is no number to torch
    dtype = array.dtype.newbyteorder("=") if array.dtype.kind in "fiub" else np.dtype(np.float32)
    return torch.from_numpy(np.array(array, dtype=dtype))
