"""MBPO acts, trains in an environment, goes on where it was, is planned with, and refuses what it cannot do."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

import worldflux
from worldflux.core.batch import Batch
from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.experiment.settings import Settings, make_plan
from worldflux.planners import MPPIPlanner, PlannerPolicy, RewardObjective
from worldflux.planners.offers import OffersProposals, OffersValue
from worldflux.training import TrainingConfig, train
from worldflux.training.optim import build_optimizer
from worldflux.training.update import make_update
from worldflux_tdmpc.mbpo import MBPOConfig


class Reach(gym.Env):
    """Two places and a push on each; being far from 0 costs. Beyond 2 it ends, after 20 steps it is cut."""

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.place = 0, self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.place, {}

    def step(self, action):
        self.time += 1
        self.place = (self.place + 0.3 * np.asarray(action)).astype(np.float32)
        far = float(np.abs(self.place).max())
        return self.place, -far, far > 2, self.time >= 20, {}


SMALL = {"seed_steps": 40, "batch_size": 16, "updates_per_step": 1}


def build(**options):
    return worldflux.create_world_model("mbpo:ci", **{"obs_shape": (2,), "action_dim": 2, **SMALL, **options})


def same(first, second) -> bool:
    return all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


# --- acting ---------------------------------------------------------------------------------------------------------


def act(policy, explore: bool, size: int = 400):
    obs = {"obs": torch.zeros(size, 2)}
    return policy(obs, policy.initial(size), is_first=torch.ones(size, dtype=torch.bool), explore=explore)[0]


def test_random_actions_come_before_the_first_update_only():
    model = build()
    assert model.recipe().random_steps == 40
    model.on_after_optimizer_step()
    assert model.recipe().random_steps == 0


def test_exploring_samples_the_actor_and_evaluation_draws_nothing():
    model = build()
    model.seed(3)
    before = model.generator("cpu").get_state()
    best = act(model.policy(), False)
    assert torch.equal(model.generator("cpu").get_state(), before)
    assert torch.equal(best, torch.tanh(model.actor.moments(torch.zeros(400, 2))[0]))
    assert act(model.policy(), True).std(0).min() > 0.1
    own = torch.Generator().manual_seed(1)
    noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(act(model.policy(generator=own), True), model.actor.act(torch.zeros(400, 2), noise))


# --- training -------------------------------------------------------------------------------------------------------


def test_a_run_that_was_interrupted_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    options = {"callbacks": [], "seed": 7, "device": "cpu", "log_interval": 0}
    schedule = {"rollout_schedule": (40, 60, 1, 3)}
    whole = train(build(**schedule), Reach, 24, output_dir=str(tmp_path / "a"), **options)
    train(build(**schedule), Reach, 11, output_dir=str(tmp_path / "b"), **options)
    resumed = train(build(**schedule), Reach, 24, output_dir=str(tmp_path / "b"), resume_from=tmp_path / "b", **options)
    assert same(whole, resumed)
    assert int(resumed.updates) == 24
    assert resumed.rollout_length() > 1


def test_it_learns_to_stay_where_it_pays(tmp_path):
    run = worldflux.fit(
        "mbpo:ci", env=Reach, run=tmp_path, seed=0, steps=300, save_every=0, eval_episodes=10,
        model_options={"seed_steps": 100, "batch_size": 64, "updates_per_step": 4, "initial_alpha": 0.1},
    )  # fmt: skip
    assert run.evaluation.trained.mean > -6 > run.evaluation.random.mean


def test_the_first_update_waits_for_the_seed_steps(tmp_path):
    model = build()
    train(model, Reach, 1, callbacks=[], output_dir=str(tmp_path), device="cpu")
    assert int(model.rows) == 32
    recipe = model.recipe()
    assert (recipe.sequence_length, recipe.batch_size, recipe.min_rows, recipe.boundary) == (2, 16, 40, "within")


@pytest.mark.parametrize(("clip", "norm"), [(1e-3, 1e-3), (0.0, None)])
def test_gradients_are_clipped_as_the_training_says(clip, norm):
    model, norms = build().train(), []

    def look(step):
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))

    config = TrainingConfig(grad_clip=clip).with_defaults(model.recipe())
    make_update(model, build_optimizer(model, config), lambda: rows(40), config=config, groups={}, ready=look)
    assert float(norms[0]) == pytest.approx(norm, rel=1e-2) if norm else norms[0] > 0.1


# --- planning -------------------------------------------------------------------------------------------------------


def test_planners_find_its_value_and_its_proposals():
    model = build()
    assert isinstance(model, OffersValue)
    assert isinstance(model, OffersProposals)
    state = model.encode(torch.randn(5, 2))
    noise = model.value_noise(5, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    value = model.terminal_value(state, noise)
    both = model.critics.values(state["obs"], model.actor.act(state["obs"], noise["action"]))
    assert torch.equal(value, both.min(0).values)
    drawn = model.proposal_noise(3, 5, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    plans = model.propose(state, 3, drawn)
    assert plans.shape == (3, 5, 2)
    assert torch.equal(plans[0], model.actor.act(state["obs"], drawn["action"][0]))
    planner = MPPIPlanner(horizon=3, num_samples=32, num_elites=8, num_proposals=4, iterations=2)
    assert act(PlannerPolicy(model, planner, RewardObjective()), False, size=3).shape == (3, 2)


# --- names and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), [("mbpo", "base"), ("mbpo-ci", "ci"), ("mbpo:base", "base")])
def test_names_lead_to_presets(name, preset):
    info = worldflux.get_model_info(name)
    assert (info["model_id"], info["type"]) == (f"mbpo:{preset}", "mbpo")
    assert f"mbpo:{preset}" in worldflux.list_models()


@pytest.mark.parametrize("batch_size", [16, 128])
def test_updates_follow_steps_whatever_the_batch(batch_size):
    model = worldflux.create_world_model(
        "mbpo:ci", obs_shape=(3,), action_dim=1, batch_size=batch_size, updates_per_step=4
    )
    plan = make_plan(Settings(model="mbpo:ci", env="Pendulum-v1"), model)
    training, collect = plan.settings.training, plan.settings.collect
    assert training.batch_size * training.sequence_length / collect.replay_ratio == 1 / 4


def test_the_base_preset_has_the_papers_sizes():
    config = worldflux.get_config("mbpo:base")
    assert (config.num_nets, config.num_elites, config.model_units, config.model_layers) == (7, 5, 200, 4)
    assert config.weight_decays == (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    assert (config.hidden_dim, config.discount, config.tau, config.real_ratio) == (256, 0.99, 0.005, 0.05)
    assert (config.learning_rate, config.model_learning_rate, config.batch_size) == (3e-4, 1e-3, 256)
    assert (config.updates_per_step, config.seed_steps) == (20, 5000)
    model = worldflux.create_world_model("mbpo:base", obs_shape=(17,), action_dim=6)
    one = 23 * 200 + 200 + 3 * (200 * 200 + 200) + 200 * 36 + 36
    assert sum(p.numel() for p in model.dynamics_model.parameters()) == 7 * one + 2 * 18
    critic = 23 * 256 + 256 + 256 * 256 + 256 + 256 + 1
    assert sum(p.numel() for p in model.critics.parameters()) == 2 * critic


def test_a_config_survives_json():
    config = MBPOConfig(rollout_schedule=(1, 2, 3, 4))
    assert MBPOConfig.from_dict(config.to_dict()) == config
    assert MBPOConfig.from_size("ci", tau=0.1).num_nets == 4


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_type": "discrete"}, "continuous actions, not 'discrete': take 'dreamer:ci' or 'tdmpc2:ci'"),
        ({"obs_shape": (3, 64, 64)}, "MBPO observes vectors; 'obs' is 'image'.*'dreamer:ci'"),
        ({"num_elites": 9}, "num_elites 9 must not exceed num_nets 4"),
        ({"num_nets": 0}, "num_nets is 0, expected a whole number of at least 1"),
        ({"weight_decays": (1e-4,)}, r"weight_decays must be 3 numbers.*model_layers \(2\)"),
        ({"model_layers": 3}, "weight_decays must be 4 numbers"),
        ({"rollout_schedule": (1, 15)}, r"rollout_schedule must be \(first env step"),
        ({"rollout_schedule": (150, 20, 1, 15)}, "rollout_schedule must be"),
        ({"rollout_schedule": (20, 150, 0, 15)}, "rollout_schedule must be"),
        ({"real_ratio": 1.2}, "real_ratio is 1.2, expected a finite number of at least 0 and at most 1"),
        ({"holdout": 0.0}, "holdout is 0.0, expected a finite number above 0 and below 1"),
        ({"tau": 0.0}, "tau is 0.0, expected a finite number above 0 and at most 1"),
        ({"discount": 1.5}, "discount is 1.5, expected"),
        ({"target_entropy": "auto"}, "target_entropy is 'auto', expected a finite number or None"),
        ({"target_entropy": float("nan")}, "target_entropy is nan, expected a finite number or None"),
        ({"observation_modalities": {"reward": {"shape": (2,)}}}, "observation 'reward' needs another name"),
        ({"num_net": 3}, "Did you mean 'num_nets'"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**options)


def test_an_unknown_size_is_refused():
    with pytest.raises(ConfigurationError, match="Unknown size: bas.*Did you mean 'base'"):
        MBPOConfig.from_size("bas")


def rows(size=2, steps=2, **more) -> Batch:
    given = {"obs": torch.randn(size, steps, 2), "actions": torch.zeros(size, steps, 2)}
    given |= {"rewards": torch.zeros(size, steps), "is_terminal": torch.zeros(size, steps)}
    return Batch(**{**given, **more})


def test_one_row_is_no_step():
    with pytest.raises(ValidationError, match="at least 2 rows"):
        build().loss(rows(steps=1))


@pytest.mark.parametrize(("field", "name"), [("is_terminal", "terminations"), ("rewards", "rewards")])
def test_a_batch_that_lacks_something_is_refused(field, name):
    with pytest.raises(ValidationError, match=name):
        build().loss(rows(**{field: None}))


def test_an_update_refuses_observations_of_another_batch():
    model = build()
    with pytest.raises(ShapeMismatchError, match="expected 3, got 2"):
        model.update(model.encode(torch.zeros(3, 2)), torch.zeros(3, 2), torch.zeros(2, 2))


def test_parts_that_do_not_fit_are_named():
    class Narrow:
        def encode(self, observations):
            return worldflux.State({"obs": torch.zeros(observations["obs"].shape[0], 1)})

    class Silent:
        def transition(self, state, conditioned, deterministic=False):
            return worldflux.State({"obs": state["obs"]})

    class Blind:
        def decode(self, state, conditions=None):
            return {"obs": state["obs"], "reward": state["reward"]}

    with pytest.raises(ConfigurationError, match=r"encoder must return.*obs of shape \(2, 1\)"):
        build(component_overrides={"observation_encoder": Narrow()}).encode(torch.zeros(2, 2))
    model = build(component_overrides={"dynamics_model": Silent()})
    with pytest.raises(ConfigurationError, match="must predict 'reward'"):
        model.transition(model.encode(torch.zeros(2, 2)), torch.zeros(2, 2))
    with pytest.raises(ConfigurationError, match=r"training needs \['continue'\]"):
        build(component_overrides={"decoder": Blind()}).loss(rows(40))


# first and last in epochs of 1,000 steps, lengths, and what they are at an epoch
SCHEDULES = [
    ((20, 150, 1, 1), {0: 1, 85: 1, 500: 1}),  # HalfCheetah, Walker2d
    ((20, 150, 1, 15), {0: 1, 20: 1, 29: 1, 30: 2, 85: 8, 149: 14, 150: 15, 999: 15}),  # Hopper
    ((20, 100, 1, 25), {20: 1, 60: 13, 100: 25, 300: 25}),  # Ant
    ((20, 300, 1, 20), {20: 1, 160: 10, 300: 20}),  # Humanoid
]


@pytest.mark.parametrize(("schedule", "lengths"), SCHEDULES)
def test_rollouts_grow_as_in_the_paper(schedule, lengths):
    first, last, start, end = schedule
    config = MBPOConfig(rollout_schedule=(first * 1000, last * 1000, start, end))
    assert {epoch: config.rollout_length(1000 * epoch) for epoch in lengths} == lengths
