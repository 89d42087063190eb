"""Recordings of the official program, and our model with the official weights."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor

from worldflux import State
from worldflux.blocks import Arrivals
from worldflux_dreamer import DreamerV3, load
from worldflux_dreamer.dreamerv3.official import official_names

# The folder named by WORLDFLUX_PARITY, else what travels with these tests (see select_fixtures.py).
RECORDINGS = Path(os.environ.get("WORLDFLUX_PARITY") or Path(__file__).parent / "parity")
CASES = ("proprio_cont", "proprio_disc", "image_disc", "image_proprio_cont")


class Case:
    """One recording: its tensors under ``io/``, and the model it was made with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meta: dict[str, Any] = json.loads((RECORDINGS / f"dreamerv3_{name}.json").read_text())
        self.arrays = load_file(RECORDINGS / f"dreamerv3_{name}.safetensors")
        self.weights = {k.removeprefix("weights/"): v for k, v in self.arrays.items() if k.startswith("weights/")}
        self.settings = {k: self.meta[k] for k in ("agent_config", "obs_space", "act_space")}
        self._model = load(self.weights, self.settings)
        self.discrete = "disc" in name

    def model(self) -> DreamerV3:
        """A fresh copy, in training mode."""
        return copy.deepcopy(self._model).train()

    def has(self, name: str) -> bool:
        return f"io/{name}" in self.arrays

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.arrays[f"io/{name}"]))

    def names(self, prefix: str) -> list[str]:
        return [k.removeprefix(f"io/{prefix}") for k in self.arrays if k.startswith(f"io/{prefix}")]

    def action(self, name: str) -> Tensor:
        """A recorded action as our flat float vector; masked (-1) discrete ones are zeros."""
        value = self[name]
        if not self.discrete:
            return value
        hot = torch.nn.functional.one_hot(value.clamp(min=0).long(), self._model.config.actions.dim).float()
        return hot * (value >= 0).unsqueeze(-1)

    def observations(self, prefix: str) -> dict[str, Tensor]:
        """Recorded observations; images [..., H, W, C] come back channels first."""
        found = {}
        for name, shape in self.meta["obs_space"].items():
            value = self[f"{prefix}/{name}"]
            found[name] = value.movedim(-1, -3) if len(shape) == 3 else value
        return found

    def sequence(self) -> tuple[Arrivals, State]:
        """The recorded rows, and the state before the first."""
        rows = {name: self[f"obs/{name}"] for name in ("is_first", "is_last", "is_terminal", "reward")}
        seq = Arrivals(obs=self.observations("obs"), action=self.action("prevact/action"), mask=None, **rows)
        return seq, State({name: self[f"carry/{name}"] for name in ("deter", "stoch")})

    def parameter(self, model: DreamerV3, official: str) -> torch.nn.Parameter:
        return dict(model.named_parameters())[official_names(model)[official]]


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of recordings."""
    return RECORDINGS


@pytest.fixture(scope="session")
def cases() -> Callable[[str], Case]:
    """Recordings by name, each read once."""
    known: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in known:
            known[name] = Case(name)
        return known[name]

    return get


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


def _agrees(got: Tensor, recorded: Tensor, *, atol: float = 1e-5, rtol: float = 1e-4) -> None:
    got, recorded = got.detach().double(), recorded.double()
    assert got.shape == recorded.shape, f"shape {tuple(got.shape)}, recorded {tuple(recorded.shape)}"
    allowed = atol * recorded.abs().max() + rtol * recorded.abs()
    worst = ((got - recorded).abs() - allowed).max()
    assert worst <= 0, f"off by {(got - recorded).abs().max():.3g} where the largest is {recorded.abs().max():.3g}"


@pytest.fixture
def agrees() -> Callable[..., None]:
    """Asserts agreement within 1e-5 of the largest recorded value plus 1e-4 of each."""
    return _agrees


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors are faster so, and the numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
