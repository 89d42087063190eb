"""Recordings of official programs: a module's tests run with each of the folder whose name begins with ``RECORDED``.

``WORLDFLUX_PARITY`` names another folder. Sizes are read from a recording, never written into a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

RECORDINGS = Path(os.environ.get("WORLDFLUX_PARITY") or Path(__file__).parent / "fixtures")


class Recording:
    """One recording: what its JSON says (``meta``), and its tensors by name."""

    def __init__(self, file: Path) -> None:
        self.folder, self.name = file.parent, file.stem
        self.meta: dict[str, Any] = json.loads(file.read_text())
        self.tensors = load_file(file.with_suffix(".safetensors"))

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix``, without it."""
        return {name.removeprefix(prefix): x.clone() for name, x in self.tensors.items() if name.startswith(prefix)}

    def has(self, name: str) -> bool:
        return f"io/{name}" in self.tensors

    def __getitem__(self, name: str) -> Tensor:
        """The input or output ``io/NAME``."""
        return self.tensors[f"io/{name}"].clone()

    def learning(self, name: str) -> Tensor:
        """The same, of which gradients are wanted."""
        return self[name].requires_grad_()


_read = cache(Recording)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give ``recording`` to the tests of a module that says which it is for."""
    if "recording" in metafunc.fixturenames:
        files = sorted(RECORDINGS.glob(f"{metafunc.module.RECORDED}*.json"))
        metafunc.parametrize("recording", files, ids=[file.stem for file in files], indirect=True)


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Recording:
    return _read(request.param)


@pytest.fixture(scope="session")
def agrees() -> Callable[..., None]:
    """Asserts that ``|a - b| / (1 + |b|)`` is at most 2e-5, or the tolerance given."""

    def compare(got: Tensor, recorded: Tensor, *, tolerance: float = 2e-5) -> None:
        got, recorded = got.detach().double(), recorded.double()
        assert got.shape == recorded.shape, f"shape {tuple(got.shape)}, recorded {tuple(recorded.shape)}"
        worst = float(((got - recorded).abs() / (1 + recorded.abs())).max()) if got.numel() else 0.0
        assert worst <= tolerance, f"off by {worst:.3g}"

    return compare


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors are faster so, and the numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
