"""Whoever acts, acts in eval mode."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from worldflux.data import BatchRequest, EnvironmentSource, Replay
from worldflux.envs import RandomPolicy, make_env
from worldflux.envs.acting import acting


def model():
    made = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    made[1][1].eval()  # one part that is kept as it is
    return made


def modes(made):
    return [part.training for part in made.modules()]


def test_every_part_is_in_eval_mode_meanwhile_and_in_its_own_afterwards():
    made = model()
    before = modes(made)
    with acting(SimpleNamespace(model=made)):
        assert not any(modes(made))
    assert modes(made) == before == [True, True, True, True, False]


def test_modes_come_back_after_an_error():
    made = model()
    with pytest.raises(KeyError), acting(SimpleNamespace(model=made)):
        raise KeyError("stuck")
    assert modes(made) == [True, True, True, True, False]


@pytest.mark.parametrize("policy", [SimpleNamespace(), SimpleNamespace(model=None), SimpleNamespace(model="dreamer")])
def test_a_policy_needs_no_model(policy):
    with acting(policy):
        pass


def test_a_model_that_is_evaluated_stays_so():
    made = model().eval()
    with acting(SimpleNamespace(model=made)):
        assert not any(modes(made))
    assert not any(modes(made))


def test_collecting_acts_in_eval_mode(counter):
    class Policy(RandomPolicy):
        model = model()

        def __call__(self, obs, carry, **options):
            assert not any(modes(self.model))
            self.model(torch.ones(1, 2))  # a batch of one, which BatchNorm refuses in training mode
            return super().__call__(obs, carry, **options)

    env = make_env(lambda: counter(fails_at=2))
    policy = Policy(env.action_spec)
    policy.model.train()
    replay = Replay(50, obs_spec=env.obs_spec, action_spec=env.action_spec)
    with pytest.raises(RuntimeError, match="gripper is stuck"):
        EnvironmentSource(env, policy, replay, replay_ratio=8).sample(BatchRequest(1, 3))
    assert all(modes(policy.model))
