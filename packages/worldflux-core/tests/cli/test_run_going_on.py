"""A run that goes on, and one that is opened again: nothing of what it was asked for is lost on the way."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.envs import RandomPolicy
from worldflux.experiment import Run, fit, resume_run
from worldflux.planners import PlannerPolicy
from worldflux.training import Callback, train

gym = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.usefixtures("toy")
SMALL = {"steps": 40, "eval_every": 0, "eval_episodes": 2, "save_every": 0, "device": "cpu"}


class Corridor(gym.Env):
    """Four steps, of which each pays."""

    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)
    made = 0

    def __init__(self):
        Corridor.made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(2, self.time / 4, np.float32), 1.0, False, self.time == 4, {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, toy):
    return fit("toyworld", env=Corridor, run=tmp_path_factory.mktemp("run") / "a", **SMALL).directory


def copied(run, folder):
    return Path(shutil.copytree(run, folder / "copy"))


def test_a_run_whose_weights_cannot_be_read_has_no_model_the_second_time_either(finished, tmp_path, monkeypatch):
    directory = copied(finished, tmp_path)
    (directory / "model").rename(tmp_path / "elsewhere")
    run = Run.load(directory, env=Corridor)
    monkeypatch.setattr(
        "worldflux.experiment.run.load_weights", lambda *given: (_ for _ in ()).throw(CheckpointError("x"))
    )
    for _ in range(2):
        with pytest.raises(CheckpointError):
            run.model  # noqa: B018


@pytest.mark.parametrize(("name", "kind"), [("random", RandomPolicy), ("cem", PlannerPolicy)])
def test_an_agent_acts_as_its_run_did(tmp_path, name, kind):
    options = {"num_samples": 8, "num_elites": 2, "iterations": 1} if name == "cem" else {}
    run = fit("toyworld", env=Corridor, run=tmp_path / "a", policy=name, policy_options=options, **SMALL)
    assert isinstance(Run.load(run.directory, env=Corridor).agent().policy, kind)


def test_random_actions_follow_the_runs_seed(tmp_path):
    def drawn(seed):
        run = fit("toyworld", env=Corridor, run=tmp_path / str(seed), policy="random", seed=seed, **SMALL).directory
        return next((run / "checkpoints").glob("step-*/replay/*action*.npy")).read_bytes()

    assert drawn(1) != drawn(2)


def test_planning_in_another_environment_says_what_differs(finished):
    class Other(Corridor):
        observation_space = gym.spaces.Box(0, 1, (5,), np.float32)

    with pytest.raises(ConfigurationError, match="observ"):
        Run.load(finished, env=Other).plan(episodes=1)


def test_an_end_that_is_past_is_no_evaluation_of_a_run(finished, tmp_path):
    directory = copied(finished, tmp_path)
    manifest = json.loads((directory / "run_manifest.json").read_text())
    (directory / "run_manifest.json").write_text(json.dumps({**manifest, "step": manifest["step"] + 1}))
    assert Run.load(directory, env=Corridor).evaluation is None
    assert Run.load(finished, env=Corridor).evaluation is not None


def test_an_end_is_recorded_once_however_little_is_added(finished, tmp_path):
    directory = copied(finished, tmp_path)
    resume_run(directory, env=Corridor, steps=41)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    ends = [line["step"] for line in lines if "eval/return" in line]
    assert len(ends) == len(set(ends))


def test_who_goes_on_in_python_is_told_to_name_the_environment(tmp_path, caplog):
    class Stopped(Callback):
        def on_train_begin(self, trainer):
            logging.getLogger("worldflux").warning("back by %s", trainer.way_back)

    fit("toyworld", env=Corridor, run=tmp_path / "a", callbacks=[Stopped()], **SMALL)
    assert f"resume_run({str(tmp_path / 'a')!r}, env=Corridor)" in caplog.text


def test_a_class_of_environments_is_made_as_often_as_the_model_wants(toy, tmp_path, monkeypatch):
    from worldflux.recipe import Recipe

    action = {"kind": "discrete", "dim": 3}
    model = toy.ToyWorld(toy.ToyWorld.config_class(model_type="toyworld", obs_shape=(2,), action_spec=action))
    monkeypatch.setattr(model, "training_defaults", lambda: Recipe(num_envs=3))
    train(model, Corridor, 1, batch_size=2, sequence_length=3, output_dir=str(tmp_path), callbacks=[], device="cpu")
    assert json.loads((tmp_path / "config.json").read_text())["collect"]["num_envs"] == 3


def test_options_that_a_run_cannot_keep_are_named_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigurationError, match="env_options.*JSON"):
        fit("toyworld", env=Corridor, run=tmp_path / "a", env_options={"place": Path("x")}, **SMALL)
    assert not (tmp_path / "a").exists()


def test_a_name_is_no_model_to_train():
    with pytest.raises(ConfigurationError, match="a trainer takes a model, got 'dreamer:ci'"):
        train("dreamer:ci", "CartPole-v1", 2)
