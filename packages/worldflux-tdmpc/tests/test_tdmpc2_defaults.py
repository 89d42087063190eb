"""What follows from the settings of a model: updates for each decision, seed steps, discounts."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.experiment.settings import Settings, make_plan


def build(**options):
    return worldflux.create_world_model("tdmpc2:ci", **{"obs_shape": (5,), "action_dim": 2, **options})


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 32}, {"horizon": 5}, {"updates_per_step": 2}], ids=lambda options: str(options)
)
def test_one_update_follows_each_decision_unless_asked_otherwise(options):
    model = build(**options)
    plan = make_plan(Settings(model="tdmpc2:ci", env="Pendulum-v1"), model)
    training, collect = plan.settings.training, plan.settings.collect
    assert training.batch_size * training.sequence_length / collect.replay_ratio == 1 / options.get(
        "updates_per_step", 1
    )


@pytest.mark.parametrize(("episode", "seeds"), [(100, 1000), (500, 2500), (1000, 5000)])
def test_seed_steps_are_five_episodes_but_at_least_1000(episode, seeds):
    model = worldflux.create_world_model("tdmpc2:1m", obs_shape=(5,), action_dim=2, episode_length=episode)
    assert model.recipe().min_rows == seeds
    tasks = build(seed_steps=None, num_tasks=2, episode_lengths=(10, episode))
    assert tasks.recipe().min_rows == seeds


def test_each_task_has_its_discount():
    model = build(num_tasks=2, episode_lengths=(500, 100))
    assert model.discount_of(torch.tensor([0, 1, 1])).tolist() == pytest.approx([0.99, 0.95, 0.95])
