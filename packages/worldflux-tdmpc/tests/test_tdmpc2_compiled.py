"""The compiled path gives the plain path's numbers."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch

import worldflux
from worldflux.core.batch import Batch
from worldflux.testing.learner import Learner
from worldflux_tdmpc.tdmpc2 import compiling

SMALL = {"enc_dim": 16, "mlp_dim": 24, "latent_dim": 16, "num_samples": 32, "num_elites": 8, "num_pi_trajs": 4}
# of what torch's compiler itself imports
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def build(**options):
    """A model whose heads say something."""
    model = worldflux.create_world_model("tdmpc2:ci", obs_shape=(5,), action_dim=2, num_q=3, **SMALL, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.updates += 1
    return model


def updated(model):
    """Its losses in two updates, and its weights after them."""
    generator = torch.Generator().manual_seed(1)
    learner = Learner(model)
    flags = torch.zeros(6, 4, dtype=torch.bool)
    batch = Batch(
        obs={"obs": torch.randn(6, 4, 5, generator=generator)},
        actions=torch.rand(6, 4, 2, generator=generator) * 2 - 1,
        rewards=torch.randn(6, 4, generator=generator),
        is_first=flags, is_last=flags, is_terminal=flags,
    )  # fmt: skip
    model.seed(3)
    found = []
    for _ in range(2):
        found.append(learner.update(batch))
        model.on_after_optimizer_step()
    return torch.stack(found), model.state_dict()


def same_updates():
    losses, weights = updated(build(dropout=0.2))
    compiled_losses, compiled_weights = updated(build(dropout=0.2, compiled=True))
    assert torch.allclose(losses, compiled_losses, rtol=1e-5)
    assert weights.keys() == compiled_weights.keys()
    for name, value in weights.items():
        assert torch.allclose(value, compiled_weights[name], atol=1e-4), name


def test_two_updates_are_traced_whole(monkeypatch):
    """Without generating code, which takes minutes."""
    compiled = partial(torch.compile, backend="aot_eager", dynamic=False, fullgraph=True)
    monkeypatch.setattr(compiling, "compiled", compiled)
    same_updates()


@compiles
@pytest.mark.slow
def test_two_updates():
    same_updates()


@compiles
def test_two_plans():
    obs = {"obs": torch.linspace(-1, 1, 10).reshape(2, 5)}
    plans = []
    for compiled in (False, True):
        policy = build(compiled=compiled).eval().policy()
        carry = policy.initial(2)
        for first in (True, False):
            action, carry = policy(obs, carry, is_first=torch.full((2,), first), explore=False)
        plans.append((action, carry["plan.mean"]))
    assert torch.allclose(plans[0][0], plans[1][0], atol=1e-4)
    assert torch.allclose(plans[0][1], plans[1][1], atol=1e-4)
