"""Tensors of ``.pt`` files of which nothing is known: checked against their checksums, unpickled without any code."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldflux.files import opened

from ...npz import short
from ...recording import DatasetError, damaged

_BLOCK = 1 << 22


class _Held:
    """Stands for tensordict's class: what was pickled of one lands in its ``__dict__``."""


def _state(cls: Any, state: Any) -> dict[str, Any]:
    """Stand for the function that builds a TensorDict of its state."""
    return dict(state)


#: Old (0.2) and new (0.8) tensordict, by the names that their pickles hold.
_STAND_INS: list[Any] = [
    (_state, "tensordict._reductions._make_td"),
    (_Held, "tensordict._td.TensorDict"),
    (_Held, "tensordict.tensordict.TensorDict"),
    (dict, "tensordict.utils._StringOnlyDict"),
]


def is_torch_file(file: Path) -> bool:
    """Tell by its ending and its first bytes; never raises."""
    try:
        with opened(file, follow=True) as handle:
            return file.suffix in (".pt", ".pth") and handle.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def load_tensors(file: Path) -> dict[str, Any]:
    """Return the tensors of a TensorDict or a dict by name, mapped from the file; nested ones as nested dicts.

    Raises DatasetError, naming the file, for a damaged one, and for one that wants code to be run.
    """
    try:
        _check_archive(file)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # of pickles of another age: read they are, or not
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        return _tensors(found)
    except DatasetError:
        raise
    except Exception as error:  # what damaged pickles raise can be anything
        raise damaged(file, _said(error)) from error


def _check_archive(file: Path) -> None:
    """Raise for an archive that is damaged: torch itself looks at no checksum."""
    with opened(file, follow=True) as handle, zipfile.ZipFile(handle) as archive:
        names = archive.namelist()
        if len(set(names)) != len(names):
            raise ValueError("it holds two records of one name")
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its record {info.filename} is packed, which torch never does")
            with archive.open(info) as record:
                while record.read(_BLOCK):
                    pass


def _said(error: Exception) -> str:
    """What is wrong, without torch's advice to trust the file."""
    text = str(error) or type(error).__name__
    if wanted := re.search(r"[Uu]nsupported (?:global: )?GLOBAL ([\w.]{1,200})", text):
        return f"it wants {wanted[1]} to be loaded, which could run anything: only tensors are read, nothing was run"
    if isinstance(error, zipfile.BadZipFile):
        return f"not a readable .pt: {short(error)}; files older than torch 1.6 are saved anew by torch.save"
    if isinstance(error, pickle.UnpicklingError):
        told = re.search(r"WeightsUnpickler error: ([^\n]{1,200})", text)
        return f"not a readable .pt of tensors: {told[1] if told else 'its pickle holds something else'}"
    return f"not a readable .pt of tensors: {short(error)}"


def _tensors(found: Any) -> dict[str, Any]:
    held = vars(found) if isinstance(found, _Held) else found
    if isinstance(held, dict) and "_tensordict" in held:
        return _tensors(held["_tensordict"])
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
        said = "a dict without names" if isinstance(held, dict) else f"a {type(found).__name__}"
        raise ValueError(f"it holds {said}, expected a dict or a TensorDict of tensors by name")
    return {
        name: value if isinstance(value, torch.Tensor) else _tensors(value)
        for name, value in held.items()
        if isinstance(value, (torch.Tensor, dict, _Held))
    }


def array_of(name: str, tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor as an array, if possible without a copy. Raises ValueError for one that is no plain block."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise ValueError(f"{name} is no plain tensor of numbers")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"{name} claims {tuple(tensor.shape)} numbers, more than the file holds")
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
