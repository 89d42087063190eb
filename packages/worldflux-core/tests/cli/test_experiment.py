from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.data import open_dataset
from worldflux.experiment import Run, Settings, collect, fit, resume_run
from worldflux.experiment.run import eval_envs
from worldflux.experiment.settings import make_plan
from worldflux.planners import CEMPlanner
from worldflux.training import Callback

gym = pytest.importorskip("gymnasium")


pytestmark = pytest.mark.usefixtures("toy")

SMALL = {"steps": 40, "eval_episodes": 2, "device": "cpu"}


class Short(gym.Env):
    """Two actions, four steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), "float32")
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        self.time += 1
        return self.observation_space.sample() * 0, 1.0, False, self.time == 4, {}


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy):
    return fit("toyworld", env=Short, run=tmp_path_factory.mktemp("run") / "a", **SMALL)


def test_fit_returns_a_trained_measured_run(run):
    assert run.status == "finished"
    assert run.evaluation.trained.returns == run.evaluation.random.returns == (4.0, 4.0)
    assert run.model.updates > 0
    assert not run.model.training


def test_a_run_on_a_factory_is_opened_with_the_factory(run):
    opened = Run.load(run.directory, env=Short)
    assert opened.evaluate(episodes=3).mean == 4
    for name, value in opened.model.state_dict().items():
        torch.testing.assert_close(value, run.model.state_dict()[name])


def test_episodes_are_recorded_as_a_run_acts(run, tmp_path):
    collect(tmp_path / "set", env=Short, policy=run.directory, episodes=3)
    dataset = open_dataset(tmp_path / "set")
    assert dataset.episodes.lengths.tolist() == [5, 5, 5] and not dataset.episodes.terminal.any()
    assert dataset.recording.provenance["policy"] == str(run.directory)


def test_where_a_runs_episodes_come_from_is_the_environment_it_was_given(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import gymnasium as gym\n"
        "class Mine(gym.Env):\n"
        "    observation_space, action_space = gym.spaces.Box(-1, 1, (2,), 'float32'), gym.spaces.Discrete(2)\n"
        "    def __init__(self, steps=2):\n        self.steps = steps\n"
        "    def reset(self, *, seed=None, options=None):\n        self.time = 0\n"
        "        return self.observation_space.sample() * 0, {}\n"
        "    def step(self, action):\n        self.time += 1\n"
        "        return self.observation_space.sample() * 0, 1.0, False, self.time == self.steps, {}\n"
    )
    given = {"env": f"{tmp_path}/mine.py:Mine", "env_options": {"steps": 3}, "policy": run.directory}
    collect(tmp_path / "set", episodes=1, **given)
    dataset = open_dataset(tmp_path / "set")
    assert dataset.recording.provenance["env_options"] == {"steps": "3"} and len(dataset) == 4
    with pytest.raises(
        ConfigurationError, match="of env_options {'steps': '3'}, these are of env_options {'steps': '2'}"
    ):
        collect(tmp_path / "set", episodes=2, **given | {"env_options": {"steps": 2}})


class Paid(Short):
    """Pays for the second action."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float(action), *rest


def test_planning_is_measured_from_the_same_starts_as_the_runs_policy(run):
    def second(model, trajectory):
        return trajectory.actions[..., 1].sum(0)

    opened = Run.load(run.directory, env=Paid)
    planner = CEMPlanner(horizon=2, num_samples=20, num_elites=4)
    planned, own = opened.plan(planner, objective=second, episodes=3), opened.evaluate(episodes=3)
    assert (planned.returns, own.returns) == ((4.0,) * 3, (0.0,) * 3)  # the toy's own policy takes the first
    assert (planned.seed, planned.explore) == (own.seed, False)


def test_a_planner_may_be_named(run):
    opened = Run.load(run.directory, env=Short)
    assert opened.plan("random", episodes=1).returns == (4.0,)
    with pytest.raises(ConfigurationError, match="unknown planner 'cen'.*Did you mean"):
        opened.plan("cen")


def test_the_same_seed_trains_the_same_model(run, tmp_path):
    again = fit("toyworld", env=Short, run=tmp_path / "b", **SMALL)
    other = fit("toyworld", env=Short, run=tmp_path / "c", **SMALL, seed=1)
    weights, same, different = (r.model.step.weight for r in (run, again, other))
    torch.testing.assert_close(weights, same, rtol=0, atol=0)
    assert not torch.equal(weights, different)


def test_a_run_that_did_not_finish_gives_its_newest_checkpoint(tmp_path):
    class Interrupt(Callback):
        def on_step_end(self, trainer):
            if trainer.step == 20:
                raise KeyboardInterrupt

    options = {**SMALL, "save_every": 8}
    with pytest.raises(KeyboardInterrupt):
        fit("toyworld", env=Short, run=tmp_path / "a", callbacks=[Interrupt()], **options)
    opened = Run.load(tmp_path / "a", env=Short)
    assert opened.status == "failed"
    assert opened.weights.name == "step-000019"  # after which the 32nd environment step was taken
    assert opened.model.updates == 19
    resumed = resume_run(tmp_path / "a", env=Short)
    assert resumed.status == "finished"
    assert resumed.model.updates > 20


def test_a_run_that_goes_on_for_more_steps_keeps_the_replay_it_has(tmp_path):
    first = fit("toyworld", env=Short, run=tmp_path / "a", **SMALL)
    longer = {**SMALL, "steps": 2 * first.settings.steps}
    again = fit("toyworld", env=Short, run=tmp_path / "a", resume=True, **longer)
    assert again.model.updates > first.model.updates
    assert again.settings.replay_capacity == first.settings.replay_capacity


def test_a_run_killed_before_its_first_checkpoint_may_start_anew(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    assert fit("toyworld", env=Short, run=tmp_path / "a", **SMALL).status == "finished"


def test_an_option_that_does_not_exist_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown option 'step'. Did you mean 'steps'"):
        fit("toyworld", env=Short, run=tmp_path / "a", step=3)


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 1.5}, {"num_envs": True}, {"replay_ratio": 0}, {"replay_ratio": "x"}, {"seed": -1}],
)
def test_a_number_that_makes_no_sense_is_named(wrong):
    name = next(iter(wrong))
    with pytest.raises(ConfigurationError, match=f"{name} is "):
        Settings.from_dict(dict(model="m", env="e", **wrong))


def test_a_directory_that_training_alone_made_is_no_run_of_ours(tmp_path):
    (tmp_path / "config.json").write_text('{"collect": {}, "training": {}}')
    with pytest.raises(CheckpointError, match="was not made by"):
        Run.load(tmp_path)


def test_what_is_not_asked_for_is_the_models_choice_then_the_common_one(run):
    chosen = make_plan(Settings.from_dict(dict(model="m", env="e", batch_size=3)), run.model).settings
    assert (chosen.batch_size, chosen.sequence_length, chosen.num_envs, chosen.steps) == (3, 4, 2, 120)
    assert chosen.replay_capacity == 120


def test_updates_follow_from_steps_and_replay_ratio(run):
    plan = make_plan(Settings.from_dict(dict(model="m", env="e", steps=1000, replay_ratio=4.0)), run.model)
    assert plan.updates == 1 + (1000 - plan.warmup) // 2  # batches of 2 * 4 rows


def test_a_family_that_catches_up_makes_an_update_for_every_step(run, toy, monkeypatch):
    monkeypatch.setattr(toy.ToyWorld, "training_defaults", lambda self: {"min_rows": 500, "catch_up": True})
    plan = make_plan(Settings.from_dict(dict(model="m", env="e", steps=1000)), run.model)
    assert plan.updates == 1000 // 25  # batches of 16 * 50 rows, 32 of which replayed for each step


def test_the_source_takes_about_the_steps_that_were_asked_for(run):
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert 36 <= json.loads(lines[-1])["env_steps"] <= 42


def test_a_family_that_wants_more_rows_first_is_waited_for(run, toy, monkeypatch):
    usual = make_plan(Settings.from_dict(dict(model="m", env="e", steps=1000)), run.model)
    monkeypatch.setattr(toy.ToyWorld, "training_defaults", lambda self: {"min_rows": 500})
    plan = make_plan(Settings.from_dict(dict(model="m", env="e", steps=1000)), run.model)
    assert 500 < plan.warmup < 600
    assert plan.updates == 1 + int((1000 - plan.warmup) / 25) < usual.updates


@pytest.mark.parametrize(("episodes", "envs"), [(1, 1), (20, 20), (32, 32), (33, 17), (100, 25)])
def test_evaluation_spreads_episodes_evenly_over_environments(episodes, envs):
    assert eval_envs(episodes) == envs


def test_a_family_says_how_it_is_evaluated_and_the_user_may_say_otherwise(toy, tmp_path, monkeypatch):
    best = fit("toyworld", env="CartPole-v1", run=tmp_path / "best", **SMALL)
    assert (best.settings.eval_explore, best.evaluation.trained.explore) == (False, False)
    monkeypatch.setattr(
        toy.ToyWorld, "training_defaults", lambda self: {"num_envs": 2, "batch_size": 2, "eval_explore": True}
    )
    sampled = fit("toyworld", env="CartPole-v1", run=tmp_path / "sampled", **SMALL)
    assert sampled.evaluation.trained.explore
    assert Run.load(tmp_path / "sampled").settings.eval_explore
    assert best.evaluation.trained.mean < 12 < sampled.evaluation.trained.mean  # its best action pushes to one side
    assert sampled.evaluate(episodes=2, explore=False).mean < 12
    with pytest.raises(ConfigurationError, match="eval_explore is 'yes', expected True or False"):
        Settings.from_dict(dict(model="toyworld", env="CartPole-v1", eval_explore="yes"))


class Film(Short):
    """Shows its time as a picture."""

    observation_space = gym.spaces.Box(0, 255, (8, 6, 3), "uint8")

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0] + 0, {}

    def step(self, action):
        _, *rest = super().step(action)
        return np.full((8, 6, 3), self.time, np.uint8), *rest


def test_stacked_frames_are_kept_with_the_run_and_seen_by_every_verb(tmp_path):
    options = {**SMALL, "frame_stack": 3}
    fit("toyworld", env=Film, run=tmp_path / "a", **options)
    opened = Run.load(tmp_path / "a", env=Film)
    assert opened.settings.frame_stack == 3
    assert opened.model.config.modalities["obs"].shape == (9, 8, 6)
    assert opened.evaluate(episodes=2).mean == opened.plan("random", episodes=2).mean == 4
    truth = opened.imagine(context=2, horizon=2, sequences=2).truth["obs"]
    assert np.diff((truth[:, 3, ::3, 0, 0] * 255).round()).tolist() == [[1, 1]] * 2
    assert resume_run(tmp_path / "a", env=Film, steps=60).settings.frame_stack == 3
    with pytest.raises(ConfigurationError, match="was started with frame_stack 3, it cannot go on with 2"):
        resume_run(tmp_path / "a", env=Film, frame_stack=2)


def test_the_same_tuple_may_be_given_again_when_a_run_goes_on(toy, tmp_path):
    options = {**SMALL, "model_options": {"obs_shape": (2,)}}
    fit("toyworld", env=Short, run=tmp_path / "a", **options)
    again = fit("toyworld", env=Short, run=tmp_path / "a", resume=True, **{**options, "steps": 60})
    assert again.settings.steps == 60
    with pytest.raises(ConfigurationError, match="was started with model_options"):
        fit("toyworld", env=Short, run=tmp_path / "a", resume=True, **{**options, "model_options": {"seed": 4}})


def test_fewer_steps_than_the_first_update_waits_for_are_warned_of(toy, tmp_path, monkeypatch, caplog):
    defaults = toy.ToyWorld.training_defaults
    fit("toyworld", env=Short, run=tmp_path / "enough", **SMALL)
    assert "before the first update" not in caplog.text
    monkeypatch.setattr(toy.ToyWorld, "training_defaults", lambda self: replace(defaults(self), min_rows=100))
    fit("toyworld", env=Short, run=tmp_path / "short", **SMALL)
    assert "40 environment steps end before the first update" in caplog.text


def test_going_on_takes_what_was_stored_where_nothing_is_asked(toy, tmp_path):
    options = {"steps": 40, "eval_episodes": 3, "seed": 1, "device": "cpu"}
    fit("toyworld", env=Short, run=tmp_path / "a", **options)
    again = fit("toyworld", env=Short, run=tmp_path / "a", resume=True, steps=60)
    assert (again.settings.seed, again.settings.eval_episodes, again.settings.device) == (1, 3, "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_options": {"action_spec": 3}}, "model_options cannot set action_spec"),
        ({"model_options": None}, "model_options is None, expected a mapping of names"),
        ({"env_options": [1]}, r"env_options is \[1\], expected a mapping of names"),
        ({"device": None}, "device is None, expected a string"),
        ({"seed": None}, "seed is None, expected a whole number"),
    ],
)
def test_settings_of_another_kind_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        fit("toyworld", env=Short, run=tmp_path / "a", **{**SMALL, **options})


def test_evaluations_need_episodes_and_a_seed(run):
    for method in (run.evaluate, run.plan, run.random_baseline):
        with pytest.raises(ConfigurationError, match="episodes is 0, expected a whole number of at least 1"):
            method(episodes=0)
        with pytest.raises(ConfigurationError, match="seed is -1, expected a whole number of at least 0"):
            method(episodes=1, seed=-1)
