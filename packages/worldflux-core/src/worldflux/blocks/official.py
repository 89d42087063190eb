"""Weights of another implementation as ours: strict about names and shapes, nothing half done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from worldflux.core.errors import ConfigurationError, did_you_mean
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
