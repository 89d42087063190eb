"""The model of a new package learns, its README's words work, and the kit passes it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys

import pytest
import torch

from worldflux.core.batch import Batch
from worldflux.envs import RandomPolicy
from worldflux.training import Trainer, TrainingConfig


@pytest.fixture
def package(project, monkeypatch):
    """The new package, imported from its source."""
    monkeypatch.syspath_prepend(project / "src")
    import acme_world

    yield acme_world
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_world"]:
        del sys.modules[name]


@pytest.fixture
def run(site, tmp_path):
    """Run ``python *args`` in an empty folder, with the package installed and no other plugin."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORLDFLUX_", "PYTHON"))}
    ours = {"PYTHONPATH": str(site), "WORLDFLUX_PLUGINS": "acme-world", "OMP_NUM_THREADS": "1", "COLUMNS": "160"}

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        command, env = [sys.executable, *args], kept | ours | {"PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)

    return call


class Echo:
    """A toy world as a source of batches: what is done at row t is what row t + 1 shows and pays."""

    def __init__(self, config) -> None:
        self.act, self.specs = RandomPolicy(config.actions), config.modalities

    def actions(self, *shape: int) -> torch.Tensor:
        drawn, _ = self.act({}, {}, is_first=torch.zeros(math.prod(shape)), explore=True)
        return drawn.reshape(*shape, -1)

    def pays(self, action: torch.Tensor) -> torch.Tensor:
        return action @ torch.linspace(-1, 1, action.shape[-1])

    def shows(self, action: torch.Tensor) -> dict[str, torch.Tensor]:
        """The action's entries again and again; in images, as bright as they are large."""
        seen = {}
        for name, spec in self.specs.items():
            size = math.prod(spec.shape)
            copies = action.repeat(*[1] * (action.ndim - 1), size // action.shape[-1] + 1)[..., :size]
            shown = copies.reshape(*action.shape[:-1], *spec.shape)
            seen[name] = (shown.clamp(0, 1) * 255).to(torch.uint8) if spec.dtype == "uint8" else shown
        return seen

    def sample(self, request) -> Batch:
        """Sequences with two episodes: the second starts with what the action before it did not lead to."""
        size, rows = request.batch_size, request.seq_len
        actions, first = self.actions(size, rows), torch.zeros(size, rows, dtype=torch.bool)
        first[:, [0, rows // 2]] = True
        arrived = torch.where(first[..., None], 0.0, actions.roll(1, 1))
        ended = torch.zeros_like(first)
        return Batch(
            obs=self.shows(arrived), actions=actions, rewards=self.pays(arrived), is_first=first, is_terminal=ended
        )


SPACES = {
    "a vector and one of several actions": {"obs_shape": (6,), "action_spec": {"kind": "discrete", "dim": 3}},
    "a vector, an image and a mixed action": {
        "observation_modalities": {"body": {"shape": (4,)}, "eye": {"shape": (3, 8, 8)}},
        "action_spec": {
            "kind": "multi",
            "parts": [{"name": "jump", "kind": "discrete", "dim": 2}, {"name": "turn", "kind": "continuous", "dim": 2}],
        },
    },
}


@pytest.mark.parametrize("space", SPACES)
def test_it_learns_what_each_action_leads_to(space, package, tmp_path):
    config = package.AcmeWorldConfig(**SPACES[space], latent_dim=32, hidden_dim=64, learning_rate=1e-2)
    model, source = package.AcmeWorldModel(config), Echo(config)
    options = TrainingConfig(total_steps=80, sequence_length=8, output_dir=str(tmp_path), device="cpu")
    Trainer(model, options).train(source)
    plan = source.actions(4, 32)
    with torch.no_grad():
        imagined = model.rollout(model.encode(source.shows(torch.zeros_like(plan[0]))), plan)
        last = model.decode(imagined.states[-1]).preds
    paid, shown = source.pays(plan), source.shows(plan[-1])
    assert (imagined.rewards - paid).square().mean() < 0.1 * paid.var()
    for name, value in shown.items():
        seen = value.float() / (255 if name == "eye" else 1)
        assert (last[name] - seen).square().mean() < 0.25 * seen.var()


def test_building_it_leaves_the_global_generator_alone(package):
    before = torch.random.get_rng_state()
    first, second = (package.AcmeWorldModel(package.AcmeWorldConfig(seed=3)) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))


def test_labels_are_within_a_quarter_of_the_count(package, run):
    done = run("-m", "worldflux.cli", "models", "list", "--all", "--json")
    for name, entry in json.loads(done.stdout).items():
        size = {"ci": (32, 64), "base": (128, 256)}[name.partition(":")[2]]
        model = package.AcmeWorldModel(package.AcmeWorldConfig(latent_dim=size[0], hidden_dim=size[1]))
        count = sum(p.numel() for p in model.parameters())
        number, unit = re.fullmatch(r"~([\d.]+)([KM])", entry["params"]).groups()
        assert abs(count / (float(number) * {"K": 1e3, "M": 1e6}[unit]) - 1) < 0.25


def test_a_field_that_cannot_work_is_named(package):
    with pytest.raises(ValueError, match="latent_dim is 0, expected a whole number of at least 1"):
        package.AcmeWorldConfig(latent_dim=0)
    with pytest.raises(ValueError, match="'reward' needs another name"):
        package.AcmeWorldConfig(observation_modalities={"reward": {"shape": (2,)}})


def test_the_snippet_of_its_readme_trains(project, run, tmp_path):
    pytest.importorskip("gymnasium")
    (snippet,) = re.findall(r"```python\n(.*?)```", (project / "README.md").read_text(), re.DOTALL)
    assert "total_steps=300" in snippet
    done = run("-c", snippet.replace("total_steps=300", "total_steps=5"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/acme-world/model/model.safetensors").exists()


def test_the_command_trains_it(run, tmp_path):
    pytest.importorskip("gymnasium")
    small = "--steps 60 --batch-size 2 --sequence-length 4 --eval-episodes 1 --eval-every 0".split()
    done = run("-m", "worldflux", "train", "acme:ci", "--env", "CartPole-v1", "--run", "runs/a", *small)
    assert done.returncode == 0, done.stderr
    assert "has no policy of its own" in done.stderr and (tmp_path / "runs/a/model/model.safetensors").exists()


def test_the_kit_passes_it_whole(project, run):
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(project))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " failed" not in done.stdout
