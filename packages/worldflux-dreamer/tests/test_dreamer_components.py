"""DreamerV3 with a slot's component replaced."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from worldflux import Batch, ConfigurationError, State
from worldflux.core.rollout import OpenLoop
from worldflux_dreamer import DreamerV3, DreamerV3Config


def build() -> DreamerV3:
    """A small model of five numbers and two actions whose weights are not those of the start."""
    sizes = {"deter_dim": 16, "hidden_dim": 8, "stoch": 4, "classes": 4, "blocks": 2, "units": 12}
    model = DreamerV3(DreamerV3Config(**sizes, imagination=3, obs_shape=(5,), action_dim=2)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def make_batch() -> Batch:
    generator, size, rows = torch.Generator().manual_seed(0), 3, 6
    flags = torch.zeros(size, rows, dtype=torch.bool)
    return Batch(
        obs={"obs": torch.rand(size, rows, 5, generator=generator)},
        actions=torch.rand(size, rows, 2, generator=generator),
        rewards=torch.randn(size, rows, generator=generator),
        is_first=flags,
        is_last=flags,
        is_terminal=flags,
    )


def observations() -> dict[str, Tensor]:
    return {name: value[:, 0] for name, value in make_batch().obs.items()}


class Blind:
    """An encoder that sees nothing."""

    def __init__(self, config: DreamerV3Config) -> None:
        self.width = config.units

    def encode(self, observations: dict[str, Tensor]) -> State:
        value = observations["obs"]
        return State({"tokens": value.new_zeros(*value.shape[:-1], self.width)})


class Idle:
    """A conditioner under which actions do nothing."""

    def condition(self, state: State, action: Tensor, conditions: object = None) -> dict[str, Tensor]:
        return {}


class Frozen:
    """Dynamics in which nothing moves."""

    def transition(self, state: State, conditioned: dict[str, Tensor], deterministic: bool = False) -> State:
        return State({"deter": state["deter"] * 0 + 0.5, "stoch": state["stoch"]})


class Flat(torch.nn.Module):
    """A decoder with one number for each thing."""

    def __init__(self, config: DreamerV3Config) -> None:
        super().__init__()
        self.width = config.obs_shape[0]
        self.level = torch.nn.Parameter(torch.full((), 0.25))

    def decode(self, state: State, conditions: object = None) -> dict[str, Tensor]:
        one = self.level.expand(state["deter"].shape[0])
        return {"obs": one[:, None].expand(-1, self.width), "reward": 40 * one, "continue": one}


class Short(OpenLoop):
    """An executor that forgets: each imagined state is the first."""

    def rollout_open_loop(self, model, initial_state, action_sequence, conditions=None, deterministic=False):
        imagined = super().rollout_open_loop(model, initial_state, action_sequence, conditions, deterministic)
        imagined.states = [initial_state] * len(imagined.states)
        return imagined


OVERRIDES = {
    "observation_encoder": Blind,
    "action_conditioner": Idle,
    "dynamics_model": Frozen,
    "decoder": Flat,
    "rollout_executor": Short,
}


def paths(model: DreamerV3) -> dict[str, Tensor]:
    """What every path through the model gives, from the same noise."""
    obs, action = observations(), torch.full((3, 2), 0.7)
    model.seed(0)
    state = model.encode(obs, deterministic=True)
    updated = model.update(state, action, obs, deterministic=True)
    moved = model.transition(updated, action, deterministic=True)
    imagined = model.rollout(updated, action.expand(3, 3, 2), deterministic=True)
    model.seed(0)
    out = model.loss(make_batch())
    return {
        "encode": torch.cat([state["deter"], state["stoch"].flatten(1)], 1),
        "update": torch.cat([updated["deter"], updated["stoch"].flatten(1)], 1),
        "transition": torch.cat([moved["deter"], moved["stoch"].flatten(1)], 1),
        "rollout": torch.cat([imagined.to_tensor("deter").flatten(), imagined.rewards.flatten()]),
        "decode": model.decode(updated).preds["obs"],
        "loss": out.loss,
    }


@pytest.mark.parametrize(
    ("slot", "reached"),
    [
        ("observation_encoder", {"encode", "update", "transition", "rollout", "decode", "loss"}),
        ("action_conditioner", {"update", "transition", "rollout", "decode", "loss"}),
        ("dynamics_model", {"encode", "update", "transition", "rollout", "decode", "loss"}),
        ("decoder", {"rollout", "decode", "loss"}),
        ("rollout_executor", {"rollout"}),  # given actions only: the actor acts by itself
    ],
)
def test_a_replaced_component_is_used_wherever_its_slot_is(slot, reached):
    base, changed = build(), build()
    changed.set_component(slot, OVERRIDES[slot])
    before, after = paths(base), paths(changed)
    differ = {name for name in before if not torch.equal(before[name], after[name])}
    assert differ == reached
    changed.train()
    changed.loss(make_batch()).loss.backward()


def test_a_replaced_component_of_our_own_kind_changes_nothing():
    model = build()
    expected = paths(model)
    for slot in ("observation_encoder", "dynamics_model", "decoder", "action_conditioner", "rollout_executor"):
        model.set_component(slot, getattr(model, slot))
    for name, value in paths(model).items():
        assert torch.equal(value, expected[name]), name


def test_an_encoder_of_another_width_is_refused():
    class Narrow(Blind):
        def __init__(self, config: DreamerV3Config) -> None:
            self.width = 3

    model = build()
    model.set_component("observation_encoder", Narrow)
    with pytest.raises(ConfigurationError, match=r"tokens of shape \(3, 3\)"):
        model.encode(observations())


def test_a_decoder_that_leaves_something_out_is_refused():
    class Mute(Flat):
        def decode(self, state: State, conditions: object = None) -> dict[str, Tensor]:
            return {"reward": super().decode(state)["reward"], "continue": super().decode(state)["continue"]}

    model = build()
    model.set_component("decoder", Mute)
    with pytest.raises(ConfigurationError, match="obs"):
        model.loss(make_batch())
