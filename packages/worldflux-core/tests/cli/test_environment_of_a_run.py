"""Who may name the environment of a run: its file as far as that is only a name, whoever opens it beyond that."""

from __future__ import annotations

import json
import logging
import shutil
import sys

import gymnasium as gym
import numpy as np
import pytest

from worldflux.cli.environment import needed
from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.model import WorldModel
from worldflux.core.registry import WorldModelRegistry
from worldflux.experiment import Run, fit, resume_run
from worldflux.training import train

SMALL = {"steps": 40, "eval_episodes": 2, "device": "cpu"}


class Short(gym.Env):
    """Two actions, four steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), "float32")
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(2, np.float32), 1.0, False, self.time == 4, {}


OWN = """
from pathlib import Path

import gymnasium

Path("code_ran").touch()


class Own(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), "float32")
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, pays=1.0):
        self.pays = pays

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample() * 0, {}

    def step(self, action):
        self.time += 1
        return self.observation_space.sample() * 0, self.pays, False, self.time == 4, {}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_world.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_world", None)


@pytest.fixture(scope="module")
def made(tmp_path_factory, toy):
    return fit("toyworld", env="CartPole-v1", run=tmp_path_factory.mktemp("made") / "a", **SMALL).directory


def altered(made, folder, **changes):
    """A run whose file says something else."""
    run = folder / "stranger"
    run.mkdir()
    config = json.loads((made / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **changes}))
    shutil.copy(made / "run_manifest.json", run)
    shutil.copytree(made / "model", run / "model")
    return run


@pytest.mark.parametrize("name", ["own_world:CartPole-v1", "gym:own_world:CartPole-v1", "own_world.py:Own"])
def test_code_that_a_file_names_does_not_run(made, folder, name):
    run = Run.load(altered(made, folder, env=name))
    for use in (run.evaluate, run.plan, run.random_baseline, run.imagine, run.make_env):
        with pytest.raises(ConfigurationError, match=r"imports code.*Run\.load\(.*--env"):
            use()
    with pytest.raises(ConfigurationError, match="imports code"):
        resume_run(run.directory)
    assert not (folder / "code_ran").exists() and "own_world" not in sys.modules


def test_what_an_installed_environment_misses_is_not_taken_from_the_runs_folder(made, folder, monkeypatch):
    run = altered(made, folder, env="Beside-v0")
    (run / "beside_the_run.py").write_text(OWN)
    gym.register("Beside-v0", entry_point="beside_the_run:Own")  # as one that needs a package which is not installed
    monkeypatch.chdir(run)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = list(sys.path)
    try:
        for use in (Run.load(".").evaluate, lambda: resume_run(".")):
            with pytest.raises(ConfigurationError, match="No module named 'beside_the_run'"):
                use()
    finally:
        del gym.registry["Beside-v0"]
    assert not (run / "code_ran").exists() and sys.path == before


def test_options_that_a_file_names_are_not_passed_on(made, folder):
    options = {"render_mode": "rgb_array"}
    run = altered(made, folder, env_options=options)
    with pytest.raises(ConfigurationError, match="with the options.*render_mode.*no file may pass"):
        Run.load(run).evaluate(episodes=1)
    with pytest.raises(ConfigurationError, match="no file may pass"):
        resume_run(run)
    assert Run.load(run, env="CartPole-v1").evaluate(episodes=1).episodes == 1
    assert Run.load(run, env_options={}).evaluate(episodes=1).episodes == 1


@pytest.mark.parametrize("name", ["own_world:Own", "own_world.py:Own"])
def test_what_the_caller_names_is_made_with_the_runs_options_and_goes_on(folder, toy, name):
    run = fit("toyworld", env=name, run=folder / "a", env_options={"pays": 3.0}, **SMALL)
    assert run.evaluation.trained.mean == 12
    assert Run.load(run.directory, env=name).evaluate(episodes=1).mean == 12
    assert Run.load(run.directory, env=name, env_options={"pays": 2.0}).evaluate(episodes=1).mean == 8
    again = resume_run(run.directory, env=name, steps=60)
    assert (again.evaluation.trained.mean, again.settings.env) == (12, name)


def test_a_run_of_a_factory_says_how_it_is_opened_and_goes_on_under_any_name(folder, toy):
    run = fit("toyworld", env=Short, run=folder / "a", **SMALL).directory
    assert json.loads((run / "config.json").read_text())["env"] == "Short()"
    for use in (Run.load(run).evaluate, lambda: resume_run(run)):
        with pytest.raises(
            ConfigurationError, match=r"made by 'Short' in a program.*env=MyEnv.*--env my_file\.py:MyEnv"
        ):
            use()
    assert resume_run(run, env="own_world.py:Own", steps=60).settings.env == "Short()"
    assert Run.load(run, env=Short).evaluate(episodes=1).mean == 4


def test_an_environment_that_is_already_made_is_no_way_to_make_some(toy, tmp_path):
    with pytest.raises(ConfigurationError, match="environments of its own, got a Short that is already made.*lambda"):
        fit("toyworld", env=Short(), run=tmp_path / "a", **SMALL)


def test_one_environment_for_training_and_evaluation_is_refused(toy, tmp_path):
    one = Short()
    with pytest.raises(ConfigurationError, match="the same Short twice"):
        fit("toyworld", env=lambda: one, run=tmp_path / "a", num_envs=1, **SMALL)


class Closing(Short):
    closed = False

    def close(self):
        self.closed = True


def test_training_and_evaluating_leave_the_callers_environment_open(toy, tmp_path):
    env = Closing()
    model = WorldModelRegistry.model("toyworld").model_class(
        toy.ToyConfig(obs_shape=(2,), action_spec={"kind": "discrete", "dim": 2})
    )
    options = {"batch_size": 2, "sequence_length": 4, "callbacks": [], "device": "cpu"}
    train(model, env, 2, output_dir=str(tmp_path / "a"), **options)
    assert not env.closed
    opened = Run.load(tmp_path / "a", env=env)  # what a Trainer wrote
    assert opened.evaluate(episodes=1).mean == 4 and not env.closed
    made = []
    train(model, lambda: made.append(Closing()) or made[-1], 2, output_dir=str(tmp_path / "b"), **options)
    assert made and all(env.closed for env in made)


def test_a_saved_model_is_measured_in_an_environment_that_is_named(made, tmp_path):
    WorldModel.from_pretrained(made / "model").save_pretrained(tmp_path / "saved")
    assert Run.load(tmp_path / "saved", env="CartPole-v1").evaluate(episodes=2).episodes == 2
    with pytest.raises(CheckpointError, match="opened with its environment"):
        Run.load(tmp_path / "saved")
    with pytest.raises(ConfigurationError, match="frame_stack is for saved models"):
        Run.load(made, frame_stack=2)


class Film(Short):
    """Shows itself in two ways."""

    render_mode = "rgb_array"
    observation_space = gym.spaces.Box(0, 255, (8, 6, 3), "uint8")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((8, 6, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((8, 6, 3), np.uint8), *super().step(action)[1:]

    def render(self):
        return np.full((9, 9, 3), 255, np.uint8)


def test_sizes_are_kept_with_the_run_and_those_of_earlier_versions_mean_what_they_meant(toy, tmp_path):
    run = fit("toyworld", env=Film, run=tmp_path / "a", image_size=4, **SMALL).directory
    assert Run.load(run, env=Film).make_env().reset(seed=0).obs["obs"].max() == 0
    config = json.loads((run / "config.json").read_text())
    del config["render_size"]  # which is how an earlier version wrote a run that observes rendered pictures
    (run / "config.json").write_text(json.dumps(config))
    assert Run.load(run, env=Film).make_env().reset(seed=0).obs["obs"].min() == 255


def test_who_acts_may_be_chosen_and_is_kept_with_the_run(toy, tmp_path, monkeypatch):
    light = {"num_samples": 8, "num_elites": 2, "iterations": 1, "horizon": 2}
    run = fit("toyworld", env=Short, run=tmp_path / "a", policy="cem", policy_options=light, **SMALL)
    assert (run.settings.policy, run.evaluation.trained.mean) == ("cem", 4)
    assert resume_run(run.directory, env=Short, steps=60).settings.policy_options == light
    assert Run.load(run.directory, env=Short).evaluate(episodes=1, policy="own").mean == 4
    with pytest.raises(ConfigurationError, match="unknown policy 'cen'.*Did you mean 'cem'"):
        fit("toyworld", env=Short, run=tmp_path / "b", policy="cen", **SMALL)
    with pytest.raises(ConfigurationError, match="policy_options are a planner's"):
        fit("toyworld", env=Short, run=tmp_path / "b", policy_options=light, **SMALL)


def test_a_family_without_a_policy_acts_at_random_and_says_so(toy, tmp_path, monkeypatch, caplog):
    monkeypatch.delattr(toy.ToyWorld, "policy")
    with caplog.at_level(logging.WARNING):
        run = fit("toyworld", env=Short, run=tmp_path / "a", **SMALL)
    assert (run.settings.policy, run.evaluation.trained.mean) == ("random", 4)
    assert "has no policy of its own" in caplog.text and "--policy cem" in caplog.text


def test_going_on_names_the_environment_again_where_the_file_may_not():
    assert needed({"env": "CartPole-v1"}, resume=False) is None
    assert needed({"env": "CartPole-v1", "env_options": {"a": 1}}, resume=False) == "CartPole-v1"
    assert needed({"env": "own.py:Own"}, resume=False) == "own.py:Own"
    assert needed({}, resume=True) is None
