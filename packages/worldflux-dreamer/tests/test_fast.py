"""The fast implementation and the plain one are one model."""

from __future__ import annotations

import copy

import pytest
import torch

from worldflux import Batch
from worldflux_dreamer import DreamerV3, DreamerV3Config
from worldflux_dreamer.dreamerv3.fast import fast

SMALL = {
    "deter_dim": 32, "hidden_dim": 12, "stoch": 5, "classes": 4, "blocks": 4, "units": 16, "depth": 2,
    "decoder_blocks": 4, "imagination": 4,
}  # fmt: skip
MULTI = {
    "kind": "multi",
    "parts": [
        {"name": "move", "kind": "continuous", "dim": 2},
        {"name": "jump", "kind": "discrete", "dim": 3},
    ],
}
VARIANTS = {
    "continuous": {"obs_shape": (6,), "action_dim": 3},
    "discrete": {"obs_shape": (6,), "action_dim": 3, "action_type": "discrete"},
    "composite": {"obs_shape": (6,), "action_spec": MULTI},
    "many classes": {"obs_shape": (6,), "action_dim": 3, "classes": 40},
    "one block": {"obs_shape": (6,), "action_dim": 3, "blocks": 1},
    "images": {"obs_shape": (3, 32, 32), "action_dim": 3},
    "few starts": {"obs_shape": (6,), "action_dim": 3, "imagine_last": 2},
    "slow target": {"obs_shape": (6,), "action_dim": 3, "slow_target": True, "discounted_continue": False},
}


def make_batch(model: DreamerV3, size: int = 3, rows: int = 7) -> Batch:
    generator, config = torch.Generator().manual_seed(3), model.config
    obs = {}
    for name, spec in config.modalities.items():
        if spec.kind == "image":
            obs[name] = torch.randint(0, 256, (size, rows, *spec.shape), generator=generator, dtype=torch.uint8)
        else:
            obs[name] = 3 * torch.randn(size, rows, *spec.shape, generator=generator)
    actions = torch.cat([
        torch.nn.functional.one_hot(torch.randint(part.dim, (size, rows), generator=generator), part.dim).float()
        if part.kind == "discrete" else 1.5 * torch.randn(size, rows, part.dim, generator=generator)
        for part in config.actions.leaves()
    ], -1)  # fmt: skip
    first = torch.rand(size, rows, generator=generator) < 0.2
    terminal = torch.rand(size, rows, generator=generator) < 0.1
    return Batch(
        obs=obs, actions=actions, rewards=torch.randn(size, rows, generator=generator), is_first=first,
        is_last=terminal, is_terminal=terminal,
        context={
            "deter": torch.rand(size, rows, config.deter_dim, generator=generator) - 0.5,
            "stoch": torch.randint(config.classes, (size, rows, config.stoch), generator=generator, dtype=torch.uint8),
        },
    )  # fmt: skip


def perturbed(model: DreamerV3) -> DreamerV3:
    """Off the zeros of the initialisation, so that every gradient is there."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for head in (model.critic, model.slow_critic, model.decoder.reward):
            head.out.bias.sub_(0.5 * ((torch.arange(255) - 127) / 6).square().clamp(max=80))
    return model


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("chunk", [4, 256], ids=["pieces", "whole"])
def test_both_give_the_same_losses_latents_and_gradients(variant, chunk, monkeypatch):
    monkeypatch.setattr(fast, "CHUNK", chunk)
    model = perturbed(DreamerV3(DreamerV3Config(**{**SMALL, **VARIANTS[variant]}))).train()
    plain = copy.deepcopy(model)
    plain.config.reference = True
    assert model._swift()
    assert not plain._swift()
    batch = make_batch(model)
    outs = [each.loss(batch) for each in (model, plain)]
    for out in outs:
        out.loss.backward()
    for name, value in outs[0].components.items():
        torch.testing.assert_close(value, outs[1].components[name], rtol=1e-4, atol=1e-6)
    assert torch.equal(outs[0].latents["stoch"], outs[1].latents["stoch"])
    torch.testing.assert_close(outs[0].latents["deter"], outs[1].latents["deter"], rtol=1e-4, atol=1e-5)
    for name, value in outs[0].metrics.items():
        torch.testing.assert_close(value, outs[1].metrics[name], rtol=1e-3, atol=1e-5)
    for (name, one), two in zip(model.named_parameters(), plain.parameters()):
        assert (one.grad is None) == (two.grad is None), name
        if one.grad is not None:
            assert two.grad.abs().max() > 0, name
            worst = (one.grad - two.grad).abs().max() / two.grad.abs().max()
            assert worst < 1e-3, f"{name}: {worst}"


def test_deeper_recurrences_take_the_plain_path():
    for depth in ("dynamics_layers", "posterior_layers"):
        model = DreamerV3(DreamerV3Config(**SMALL, obs_shape=(6,), action_dim=3, **{depth: 2}))
        assert not model._swift()
        model.loss(make_batch(model)).loss.backward()


def test_gradients_do_not_depend_on_the_pieces(monkeypatch):
    model = perturbed(DreamerV3(DreamerV3Config(**SMALL, obs_shape=(6,), action_dim=3)))
    grads = []
    for chunk in (1, 5, 1000):
        monkeypatch.setattr(fast, "CHUNK", chunk)
        model.seed(0)
        model.zero_grad()
        model.loss(make_batch(model)).loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("variant", ["continuous", "images"])
def test_mixed_precision_is_near_full_precision(variant, reference):
    model = DreamerV3(DreamerV3Config(**{**SMALL, **VARIANTS[variant]}, reference=reference)).train()
    batch, losses = make_batch(model), []
    for enabled in (False, True):
        model.seed(0)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            out = model.loss(batch)
        out.loss.backward()
        losses.append(out.loss.detach())
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert out.loss.dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0.0)
