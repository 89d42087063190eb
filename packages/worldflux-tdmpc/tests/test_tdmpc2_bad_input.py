"""Input that TD-MPC2 alone can judge is refused with what to do instead."""

from __future__ import annotations

import pytest
import torch

import worldflux
from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux_tdmpc import TDMPC2Config


def build(**options):
    return worldflux.create_world_model("tdmpc2:ci", **{"obs_shape": (5,), "action_dim": 2, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_type": "discrete", "prior": "gaussian"}, "set prior='categorical', or leave it out"),
        ({"prior": "categorical"}, "set prior='gaussian'"),
        ({"prior": "gausian"}, "Did you mean 'gaussian'"),
        ({"action_type": "token"}, "continuous or discrete actions, not 'token'"),
        ({"num_elites": 600, "num_samples": 512}, "num_elites 600 must not exceed num_samples 512"),
        ({"num_pi_trajs": 128}, "num_pi_trajs 128 must be below num_samples 128"),
        ({"horizon": 0}, "horizon is 0, expected a whole number of at least 1"),
        ({"latent_dim": 60}, "divisible by simnorm_dim 8"),
        ({"discount": 1.5}, "discount is 1.5, expected a finite number above 0 and at most 1 or None"),
        ({"discount": "high"}, "discount is 'high', expected a finite number"),
        ({"seed_steps": "none"}, "seed_steps is 'none', expected a whole number of at least 0 or None"),
        ({"seed_steps": 1e3}, "seed_steps is 1000.0, expected a whole number"),
        ({"seed_steps": True}, "seed_steps is True, expected a whole number"),
        ({"min_std": 3.0}, "min_std 3.0 must not exceed max_std 2.0"),
        ({"num_q": 1}, "num_q is 1, expected a whole number of at least 2"),
        ({"obs_shape": (3, 32, 32)}, "64x64 pixels, got 32x32.*image_size=64"),
        ({"num_tasks": 3, "action_dims": (2, 2)}, "one entry for each of 3 tasks, got 2"),
        ({"num_tasks": 2, "action_dims": (2, 4)}, "exceed action_dim 2"),
        ({"action_dims": (2, 1)}, "num_tasks is 1: set num_tasks=2"),
        ({"num_tasks": 2, "episodic": True}, "episodic is for one task"),
        ({"observation_modalities": {"task": {"shape": (), "dtype": "int64"}}}, "set num_tasks"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**options)


def rows(size=2, steps=4, **more) -> Batch:
    given = {"obs": torch.randn(size, steps, 5), "actions": torch.zeros(size, steps, 2)}
    return Batch(**given, **{"rewards": torch.zeros(size, steps), **more})


def test_episodic_training_needs_to_see_ends():
    with pytest.raises(ValidationError, match="terminations.*build the model with episodic=False"):
        build(episodic=True).loss(rows())


def test_one_row_is_no_step():
    with pytest.raises(ValidationError, match="at least 2 rows"):
        build().loss(rows(steps=1))


def test_several_tasks_need_to_be_told_apart():
    model = build(num_tasks=3)
    with pytest.raises(ValidationError, match=r"missing required modalities \['task'\]"):
        model.encode({"obs": torch.zeros(2, 5)})
    with pytest.raises(ValidationError, match="num_tasks = 3, got 0 to 3"):
        model.encode({"obs": torch.zeros(2, 5), "task": torch.tensor([0, 3])})
    with pytest.raises(ValidationError, match="task"):
        model.loss(rows())
    for dtype in (torch.float32, torch.int32):
        with pytest.raises(ValidationError, match=f"'task' .*{dtype}"):
            model.encode({"obs": torch.zeros(2, 5), "task": torch.zeros(2, dtype=dtype)})


def test_an_update_refuses_observations_of_another_batch():
    model = build()
    with pytest.raises(ShapeMismatchError, match="expected 3, got 2"):
        model.update(model.encode(torch.zeros(3, 5)), torch.zeros(3, 2), torch.zeros(2, 5))


def test_a_saved_model_of_another_size_is_refused(tmp_path):
    build().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="latent_dim=64, not 128"):
        worldflux.create_world_model(str(tmp_path), latent_dim=128)


def test_parts_that_do_not_fit_are_named():
    class Narrow:
        def encode(self, observations):
            return worldflux.State({"latent": torch.zeros(observations["obs"].shape[0], 3)})

    model = build(component_overrides={"observation_encoder": Narrow()})
    with pytest.raises(ConfigurationError, match=r"latent.*64.*shape \(2, 3\)"):
        model.encode(torch.zeros(2, 5))


def test_earlier_names_of_settings_go_on_working():
    config = TDMPC2Config.from_dict({"hidden_dim": 32, "num_q_networks": 3, "gamma": 0.9, "target_q_tau": 0.05})
    assert (config.mlp_dim, config.num_q, config.discounts, config.tau) == (32, 3, (0.9,), 0.05)
    assert (config.hidden_dim, config.num_q_networks, config.gamma, config.target_q_tau) == (32, 3, 0.9, 0.05)
    with pytest.raises(ConfigurationError, match="hidden_dim is the earlier name of mlp_dim"):
        TDMPC2Config.from_dict({"hidden_dim": 32, "mlp_dim": 64})


@pytest.mark.parametrize(("length", "discount"), [(500, 0.99), (100, 0.95), (1000, 0.995), (50, 0.95), (200, 0.975)])
def test_the_discount_follows_the_episodes_length(length, discount):
    assert TDMPC2Config(episode_length=length).discounts == (pytest.approx(discount),)
