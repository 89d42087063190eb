"""Recordings of the official program, and our model with the official weights."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import worldflux
from worldflux import Batch, State
from worldflux_tdmpc import TDMPC2, load
from worldflux_tdmpc.tdmpc2.window import Noise, Window

RECORDINGS = Path(os.environ.get("WORLDFLUX_PARITY") or Path(__file__).parent / "parity")
CASES = ("state", "episodic", "rgb", "multitask")


class Case:
    """One recording: its tensors under ``io/``, and the model it was made with."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.meta: dict[str, Any] = json.loads((RECORDINGS / f"tdmpc2_{name}.json").read_text())
        self.tensors = load_file(RECORDINGS / f"tdmpc2_{name}.safetensors")
        self.weights = {k: v for k, v in self.below("weights/").items() if not k.startswith("_detach_Qs_params.")}
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

    def checkpoint(self, layout: str, folder: Path) -> Path:
        """A file in a published layout: one recorded, or its names and what else such files hold."""
        if (file := RECORDINGS / f"tdmpc2_{self.name}_ckpt_{layout}.pt").is_file():
            return file
        others = {"__batch_size": torch.Size([3]), "__device": torch.device("cpu")}
        names = json.loads((RECORDINGS / "tdmpc2_layouts.json").read_text())[self.name][layout]
        state = {name: self.weights[own] if own else others[name.rpartition(".")[2]] for name, own in names.items()}
        torch.save({"model": state}, folder / f"{layout}.pt")
        return folder / f"{layout}.pt"

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
            terminal=flat["terminated"], valid=torch.ones_like(flat["reward"]), task=self.task,
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


@pytest.fixture
def build() -> Callable[..., TDMPC2]:
    """Builds a small model with the options given."""
    return lambda **options: worldflux.create_world_model(
        "tdmpc2:ci", **{"obs_shape": (5,), "action_dim": 2, **options}
    )


@pytest.fixture
def shaken() -> Callable[[TDMPC2], TDMPC2]:
    """Changes a model so that its heads are no longer zero."""

    def shake(model: TDMPC2) -> TDMPC2:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        return model

    return shake


@pytest.fixture
def rows() -> Callable[..., Batch]:
    """Makes a batch of noise for a model."""

    def make(model: TDMPC2, size: int = 6, steps: int = 4, seed: int = 0, **more) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        obs = {
            name: torch.randn(size, steps, *spec.shape, generator=generator)
            for name, spec in model.config.modalities.items()
            if name != "task"
        }
        if model.config.num_tasks > 1:
            task = torch.randint(model.config.num_tasks, (size, 1), generator=generator)
            obs["task"] = task.expand(-1, steps)
        actions = torch.rand(size, steps, model.config.action_dim, generator=generator) * 2 - 1
        rewards = torch.randn(size, steps, generator=generator)
        return Batch(obs=obs, actions=actions, rewards=rewards, is_terminal=torch.zeros(size, steps), **more)

    return make


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


class Through(torch.nn.Module):
    """Hands everything on to a part."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.part = part

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(vars(self).get("part") or super().__getattr__("part"), name)

    def forward(self, *given: Any) -> Any:
        return self.part(*given)


@pytest.fixture
def through() -> type[Through]:
    """A wrapper that hands everything on to the part it is given."""
    return Through
