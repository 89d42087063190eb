"""A part brings its loss: who asks what it is, or how it is called, must get the same answer from all of its kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from worldflux import Batch, WorldModel
from worldflux_dreamer import DreamerV3, DreamerV3Config, PlaNet, PlaNetConfig

SLOTS = ("observation_encoder", "action_conditioner", "dynamics_model", "decoder", "rollout_executor")
OBSERVED = {
    "image": {"shape": (3, 64, 64)},
    "speed": {"shape": (2,)},
    "on": {"kind": "vector", "shape": (3,), "dtype": "bool"},
}
DREAMER = {"deter_dim": 16, "hidden_dim": 8, "stoch": 4, "classes": 4, "blocks": 2, "units": 12, "depth": 2}


def dreamer() -> DreamerV3:
    sizes = {**DREAMER, "decoder_blocks": 2, "imagination": 3}
    return shaken(DreamerV3(DreamerV3Config(**sizes, observation_modalities=OBSERVED, action_dim=2)))


def planet() -> PlaNet:
    sizes = {"deter_dim": 12, "stoch_dim": 3, "hidden_dim": 10, "reward_units": 8, "depth": 2, "overshooting": 3}
    return shaken(PlaNet(PlaNetConfig(**sizes, observation_modalities=OBSERVED, action_dim=2)))


def shaken(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def make_batch(size: int = 2, rows: int = 5) -> Batch:
    generator, flags = torch.Generator().manual_seed(0), torch.zeros(size, rows, dtype=torch.bool)
    return Batch(
        obs={
            "image": torch.randint(256, (size, rows, 3, 64, 64), generator=generator, dtype=torch.uint8),
            "speed": torch.randn(size, rows, 2, generator=generator),
            "on": torch.rand(size, rows, 3, generator=generator) < 0.5,
        },
        actions=torch.rand(size, rows, 2, generator=generator),
        rewards=torch.randn(size, rows, generator=generator),
        is_first=flags, is_last=flags, is_terminal=flags,
    )  # fmt: skip


def learn(model: WorldModel) -> dict[str, torch.Tensor]:
    """The loss, its parts, and the gradient of every weight of the model's own."""
    model.seed(0)
    model.zero_grad()
    out = model.loss(make_batch())
    out.loss.backward()
    found = {"loss": out.loss.detach(), **out.components}
    return found | {f"grad {i}": p.grad for i, p in enumerate(model.parameters()) if p.grad is not None}


class Through(torch.nn.Module):
    """A part that passes everything on to another one."""

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.__dict__["_hidden"] = part
        if isinstance(part, torch.nn.Module):
            self.part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_hidden"], name)


def subclassed(part: Any) -> Any:
    part.__class__ = type(f"Own{type(part).__name__}", (type(part),), {})
    return part


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("change", [Through, subclassed])
@pytest.mark.parametrize("build", [dreamer, planet])
def test_a_wrapped_or_subclassed_part_gives_the_same_loss(build, change, slot):
    plain, changed = build(), build()
    changed.set_component(slot, change(getattr(changed, slot)))
    expected, got = learn(plain), learn(changed)
    for name in ("loss", *plain.loss(make_batch()).components):
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)
    norms = [torch.stack([g.norm() for n, g in each.items() if "grad" in n]).norm() for each in (expected, got)]
    torch.testing.assert_close(*norms, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [dreamer, planet])
@pytest.mark.parametrize("slot", ["observation_encoder", "dynamics_model", "decoder"])
def test_a_class_put_into_a_slot_starts_with_the_weights_of_the_family_s_own(build, slot):
    family, config = type(build()), build().config
    fresh, changed = family(config), family(config)
    changed.set_component(slot, type("Own", (type(getattr(fresh, slot)),), {}))
    after = changed.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in fresh.state_dict().items())


@pytest.mark.parametrize("build", [dreamer, planet])
def test_a_rollout_shows_nothing_but_what_it_pays(build, monkeypatch):
    model = build()
    monkeypatch.setattr(model.decoder, "observations", None)  # would fail if it were asked
    imagined = model.rollout(model.initial_state(2), torch.zeros(4, 2, 2))
    assert imagined.rewards.shape == (4, 2)
    assert (imagined.continues is not None) == (build is dreamer)


@pytest.mark.parametrize("build", [dreamer, planet])
def test_boolean_observations_are_learnt_and_decoded_as_numbers(build):
    model = build()
    assert torch.isfinite(model.loss(make_batch()).components["on"])
    state = model.encode({name: value[:, 0] for name, value in make_batch().obs.items()})
    assert model.decode(state).preds["on"].dtype == torch.float32
