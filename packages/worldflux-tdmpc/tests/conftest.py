"""Recordings of the official program, and our model with the official weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from worldflux.core.state import State
from worldflux_tdmpc import TDMPC2, load
from worldflux_tdmpc.objective import Noise, Window

FIXTURES = Path(__file__).parent / "fixtures"
CASES = ("state", "episodic", "rgb", "multitask")


class Case:
    """One recording: its tensors under ``io/``, and the model it was made with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meta: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
        self.tensors = load_file(FIXTURES / f"{name}.safetensors")
        self.weights = self.below("weights/")
        self.settings: dict[str, Any] = self.meta["config"]
        self._model = load(self.weights, self.settings)

    def model(self) -> TDMPC2:
        """A fresh copy, in evaluation mode."""
        return copy.deepcopy(self._model)

    def below(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}

    def has(self, name: str) -> bool:
        return f"io/{name}" in self.tensors

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[f"io/{name}"].clone()

    def get(self, name: str) -> Tensor | None:
        return self[name] if self.has(name) else None

    @property
    def task(self) -> Tensor | None:
        return self.get("task")

    def state(self, model: TDMPC2) -> State:
        """The state of the recorded observations, images shifted as recorded."""
        return model.start({"obs": self["obs"]}, self.task, self.get("shift"))

    def window(self) -> Window:
        flat = {name: self[f"batch/{name}"].squeeze(-1) for name in ("reward", "terminated")}
        return Window(
            obs={"obs": self["batch/obs"]}, action=self["batch/action"], reward=flat["reward"],
            terminal=flat["terminated"], valid=None, task=self.task,
        )  # fmt: skip

    def noise(self, update: str) -> Noise:
        """What update ``update/0`` and so on drew; official shifts come in the order of the calls."""
        shift = self.get(f"{update}/shift")
        return Noise(
            self[f"{update}/td_eps"], self[f"{update}/td_q_idx"], self[f"{update}/pi_eps"], self[f"{update}/pi_q_idx"],
            None if shift is None else torch.cat([shift[-1:], shift[:-1]]),
        )  # fmt: skip


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


def _agrees(got: Tensor, recorded: Tensor, *, tolerance: float = 2e-5) -> None:
    got, recorded = got.detach().double(), recorded.double()
    recorded = recorded.squeeze(-1) if recorded.ndim == got.ndim + 1 else recorded
    assert got.shape == recorded.shape, f"shape {tuple(got.shape)}, recorded {tuple(recorded.shape)}"
    worst = ((got - recorded).abs() / (1 + recorded.abs())).max()
    assert worst <= tolerance, f"off by {worst:.3g}"


@pytest.fixture
def agrees() -> Callable[..., None]:
    """Asserts that ``|a - b| / (1 + |b|)`` is at most 2e-5, or the tolerance given."""
    return _agrees


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors are faster so, and the numbers do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
