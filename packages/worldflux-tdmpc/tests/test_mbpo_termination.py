"""Where episodes end: known tasks at their limits, functions of the user's own, and a head that learns it."""

from __future__ import annotations

import json
import math

import pytest
import torch

import worldflux
from worldflux.core.errors import ConfigurationError
from worldflux.testing.echo import EchoWorld
from worldflux.testing.learner import Learner
from worldflux_tdmpc.mbpo import LearnedTermination
from worldflux_tdmpc.mbpo.termination import KNOWN

# task -> observations and whether an episode that arrives there has ended
LIMITS = {
    "never": [([0.0, 99.0], False), ([math.nan, 0.0], False)],
    "hopper": [
        ([1.2, 0.0, 0.0], False), ([0.71, 0.0, 0.0], False), ([0.7, 0.0, 0.0], True), ([0.0, 0.0, 0.0], True),
        ([1.2, 0.19, 0.0], False), ([1.2, 0.2, 0.0], True), ([1.2, -0.2, 0.0], True), ([1.2, -0.19, 0.0], False),
        ([1.2, 0.0, 99.9], False), ([1.2, 0.0, 100.0], True), ([1.2, 0.0, -100.0], True), ([150.0, 0.0, 0.0], False),
        ([1.2, 0.0, math.inf], True), ([1.2, 0.0, math.nan], True),
    ],
    "walker2d": [
        ([1.2, 0.0, 0.0], False), ([0.8, 0.0, 0.0], True), ([0.81, 0.0, 0.0], False), ([1.99, 0.0, 0.0], False),
        ([2.0, 0.0, 0.0], True), ([1.2, 1.0, 0.0], True), ([1.2, -1.0, 0.0], True), ([1.2, 0.99, 0.0], False),
        ([1.2, -0.99, 500.0], False), ([math.nan, 0.0, 0.0], True),
    ],
    "ant": [
        ([0.5, 9.0], False), ([0.2, 0.0], False), ([0.19, 0.0], True), ([1.0, 0.0], False), ([1.01, 0.0], True),
        ([0.5, math.inf], True), ([0.5, math.nan], True),
    ],
    "humanoid": [
        ([1.4, 0.0], False), ([1.0, 0.0], False), ([0.99, 0.0], True), ([2.0, 0.0], False), ([2.01, 0.0], True),
    ],
    "inverted_pendulum": [
        ([9.0, 0.0, 0.0], False), ([0.0, 0.2, 0.0], False), ([0.0, 0.201, 0.0], True), ([0.0, -0.201, 0.0], True),
        ([0.0, 0.0, math.nan], True),
    ],
}  # fmt: skip


def build(**options):
    return worldflux.create_world_model("mbpo:ci", **{"obs_shape": (3,), "action_dim": 2, **options})


def test_the_limits_of_every_known_task_are_tested():
    assert {f"mbpo.{name}" for name in LIMITS} == set(KNOWN)


@pytest.mark.parametrize("name", LIMITS)
def test_a_known_task_ends_where_its_environment_does(name):
    obs = torch.tensor([row for row, _ in LIMITS[name]])
    ended = KNOWN[f"mbpo.{name}"](torch.zeros_like(obs), torch.zeros(len(obs), 1), obs)
    assert (ended.dtype, ended.shape) == (torch.bool, (len(obs),))
    assert ended.tolist() == [end for _, end in LIMITS[name]]


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_task_is_chosen_by_its_id_and_saved_with_the_model(name, tmp_path):
    model = build(component_overrides={"termination": name})
    assert model.termination is KNOWN[name]
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "worldflux_meta.json").read_text())["components"] == {"termination": name}
    again = worldflux.WorldModel.from_pretrained(tmp_path)
    assert again.termination is KNOWN[name]
    assert again.num_parameters() == model.num_parameters() < build().num_parameters()


def test_a_state_says_whether_the_episode_goes_on():
    model = build(component_overrides={"termination": "mbpo.hopper"})
    state = model.encode(torch.tensor([[1.2, 0.0, 0.0]]))
    assert model.decode(state).preds["continue"].tolist() == [1]
    fallen = model.update(state, torch.zeros(1, 2), torch.tensor([[0.3, 0.0, 0.0]]), deterministic=True)
    assert model.decode(fallen).preds["continue"].tolist() == [0]
    ahead = model.transition(state, torch.zeros(1, 2), deterministic=True)
    assert ahead["continue"].item() == 1 - float(KNOWN["mbpo.hopper"](None, None, ahead["obs"]).item())


def test_a_function_of_ones_own_sees_observation_action_and_what_follows():
    seen = []

    def mine(obs, action, next_obs):
        seen.append((obs.shape, action.shape, next_obs.shape))
        return (next_obs[:, 0] - obs[:, 0]).abs() + action[:, 0] > 0.5

    model = build(component_overrides={"termination": mine})
    state = model.encode(torch.zeros(2, 3))
    action, following = torch.tensor([[0.3, 0.0], [0.0, 0.0]]), torch.tensor([[0.3, 0.0, 0.0], [0.3, 0.0, 0.0]])
    assert model.update(state, action, following, deterministic=True)["continue"].tolist() == [0, 1]
    assert {tuple(map(tuple, shapes)) for shapes in seen} == {((2, 3), (2, 2), (2, 3))}


def test_a_function_without_an_id_trains_but_cannot_be_saved(tmp_path):
    model = build(component_overrides={"termination": lambda obs, action, next_obs: next_obs[:, 0] > 0}).train()
    batch = EchoWorld(model.config.modalities, model.config.actions).batch(8, 2, seed=0)
    assert "termination" not in model.loss(batch).components  # nothing to learn
    with pytest.raises(ConfigurationError, match="register it"):
        model.save_pretrained(tmp_path)


def test_a_head_of_ones_own_is_a_class_and_learns():
    class Simple(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.linear = torch.nn.Linear(config.obs_size, 1)

        def forward(self, obs, action, next_obs):
            return self.linear(next_obs).sigmoid()[:, 0]

    model = build(component_overrides={"termination": Simple}).train()
    batch = EchoWorld(model.config.modalities, model.config.actions).batch(8, 2, seed=0)
    out = model.loss(batch)
    out.loss.backward()
    assert "termination" in out.components
    assert model.termination.linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("fn", "got"),
    [(lambda o, a, n: n > 0, r"\[2, 3\]"), (lambda o, a, n: True, "bool"), (lambda o, a, n: None, "None")],
)
def test_a_function_that_does_not_answer_for_each_row_is_refused(fn, got):
    model = build(component_overrides={"termination": fn})
    with pytest.raises(ConfigurationError, match=rf"termination must return a tensor \[2\], got {got}"):
        model.transition(model.encode(torch.zeros(2, 3)), torch.zeros(2, 2))


def test_something_that_is_no_function_is_refused():
    with pytest.raises(ConfigurationError, match="termination.*__call__"):
        build(component_overrides={"termination": 3})
    with pytest.raises(ConfigurationError, match="Did you mean 'mbpo.hopper'"):
        build(component_overrides={"termination": "mbpo.hoper"})


# --- the head that learns it ----------------------------------------------------------------------------------------


def test_before_anything_was_seen_nothing_ends():
    model = build()
    assert isinstance(model.termination, LearnedTermination)
    chance = model.ended(torch.randn(500, 3), torch.randn(500, 2), torch.randn(500, 3))
    assert float(chance.detach().max()) < 0.1


def test_where_nothing_ever_ends_the_head_costs_nothing():
    model = build(obs_shape=(3,)).train()
    learner = Learner(model)
    for update in range(20):
        batch = EchoWorld(model.config.modalities, model.config.actions).batch(8, 4, seed=update)
        batch.is_terminal = torch.zeros_like(batch.is_terminal)
        learner.step(batch)
        out = model.loss(batch)
        assert float(out.metrics["ended"]) == 0.0  # no imagined step ends, so no value is cut
    assert float(out.components["termination"]) < 0.01


def test_the_head_learns_where_episodes_end():
    model = build(obs_shape=(6,), action_dim=3).train()
    learner, world = Learner(model), EchoWorld(model.config.modalities, model.config.actions)
    for update in range(160):
        learner.step(world.batch(16, 8, seed=update))
    done = world.actions(256, generator=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        going_on = model.decode(model.transition(model.encode(world.start(256)), done, deterministic=True)).preds
    ends, stops = world.ends(done)
    assert going_on["continue"][ends].mean() < 0.75  # 6 of 10 of these end
    assert going_on["continue"][stops].mean() > 0.75  # these are only watched no longer


def test_an_imagined_episode_ends_where_that_is_likelier_than_not():
    for chance, ended in ((0.49, 0.0), (0.51, 1.0)):
        even = lambda obs, action, next_obs, chance=chance: torch.full(obs.shape[:1], chance)
        model = build(component_overrides={"termination": even})
        noise = model.draw(20, 2, torch.device("cpu"))
        size = noise.member.shape[1]
        first, second = model.imagine(torch.zeros(size, 3), torch.ones(size), noise)
        assert first.terminal.unique().tolist() == [ended]
        assert second.weight.unique().tolist() == [1 - ended]
