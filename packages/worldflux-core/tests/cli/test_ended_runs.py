"""Runs of ``fit`` that were ended, or that had ended already."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.experiment import Run, fit, resume_run
from worldflux.training import Callback, JSONLCallback
from worldflux.training.lock import RunLock

gym = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.usefixtures("toy")
SMALL = {"steps": 40, "eval_episodes": 2, "device": "cpu"}
RECORDS = ("metrics.jsonl", "evaluation.json", "run_manifest.json", "config.json")


class Short(gym.Env):
    """Two actions, four steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), "float32")
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.uniform(-1, 1, 2).astype("float32"), {}

    def step(self, action):
        self.time += 1
        return self.np_random.uniform(-1, 1, 2).astype("float32"), 1.0, False, self.time == 4, {}


class Stopping:
    """Makes environments, and sends this process SIGTERM where it is told to."""

    def __init__(self, *, made: int = 0, step: int = 0) -> None:
        self.made, self.step = made, step
        self.count = {"made": 0, "step": 0}

    def send(self, what: str, at: int) -> None:
        self.count[what] += 1
        if self.count[what] == at:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.001)

    def __call__(self):
        outer = self
        self.send("made", self.made)

        class Env(Short):
            def step(self, action):
                outer.send("step", outer.step)
                return super().step(action)

        return Env()


def without_times(directory: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    timed = {"time", "updates_per_second", "eval/seconds"}
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, toy):
    return fit("toyworld", env=Short, run=tmp_path_factory.mktemp("whole") / "a", **SMALL)


MOMENTS = {
    "building": Stopping(made=1),
    "collecting": Stopping(step=6),
    "training": Stopping(step=30),
    "evaluating": Stopping(step=18),
    "concluding": Stopping(step=70),
    "the random policy": Stopping(step=78),
}


@pytest.mark.parametrize("env", MOMENTS.values(), ids=MOMENTS)
def test_sigterm_at_any_moment_preempts_a_run_that_goes_on_to_the_same_end(whole, tmp_path, env):
    stopped = fit("toyworld", env=env, run=tmp_path / "a", **SMALL)
    assert stopped.status == "preempted"
    assert Run.load(tmp_path / "a").status == "preempted"
    assert stopped.evaluation is None
    resumed = fit("toyworld", env=Stopping(), run=tmp_path / "a", resume=True, **SMALL)
    assert resumed.status == Run.load(tmp_path / "a").status == "finished"
    for name, value in whole.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name])
    assert without_times(tmp_path / "a") == without_times(whole.directory)
    assert resumed.evaluation == whole.evaluation


def test_a_finished_run_is_not_gone_on_with_and_its_records_stay(whole, caplog):
    before = {name: (whole.directory / name).read_bytes() for name in RECORDS}
    files = sorted(whole.directory.rglob("*"))
    again = fit("toyworld", env=Short, run=whole.directory, resume=True, **SMALL)
    assert "is already finished: " in caplog.text
    assert {name: (whole.directory / name).read_bytes() for name in RECORDS} == before
    assert sorted(whole.directory.rglob("*")) == files
    assert (again.status, again.evaluation) == ("finished", whole.evaluation)
    assert again.model.updates == whole.model.updates


def test_fewer_steps_than_were_taken_are_refused_with_both_numbers(whole):
    taken = json.loads((whole.directory / "run_manifest.json").read_text())["env_steps"]
    with pytest.raises(ConfigurationError, match=f"has taken {taken} environment steps already.*go on to 20"):
        resume_run(whole.directory, env=Short, steps=20)


def test_more_steps_go_on_with_a_finished_run_and_measure_it_again(tmp_path):
    fit("toyworld", env=Short, run=tmp_path / "a", **SMALL)
    first = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    longer = resume_run(tmp_path / "a", env=Short, steps=60)
    assert longer.evaluation is not None
    ends = [line["step"] for line in without_times(tmp_path / "a") if "eval/return" in line]
    assert first["step"] in ends and len(set(ends)) == len(ends)
    assert json.loads((tmp_path / "a" / "evaluation.json").read_text())["step"] > first["step"]


def test_a_finished_run_of_an_earlier_version_goes_on_with_its_last_evaluation_once(tmp_path, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(JSONLCallback, "state_dict", lambda self: {})  # they did not count their lines
        fit("toyworld", env=Short, run=tmp_path / "a", **SMALL)
    before = without_times(tmp_path / "a")
    resume_run(tmp_path / "a", env=Short, steps=60)
    ends = [line["step"] for line in without_times(tmp_path / "a") if "eval/return" in line]
    assert before[-1]["step"] in ends and len(set(ends)) == len(ends)
    assert without_times(tmp_path / "a")[: len(before)] == before


def test_a_run_killed_before_its_first_checkpoint_begins_anew_on_resume(whole, tmp_path, caplog):
    class Killed(Callback):
        def on_train_begin(self, trainer):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("toyworld", env=Short, run=tmp_path / "a", callbacks=[Killed()], **SMALL)
    resumed = fit("toyworld", env=Short, run=tmp_path / "a", resume=True, **SMALL)
    assert "it begins anew" in caplog.text
    assert without_times(resumed.directory) == without_times(whole.directory)


def test_a_run_killed_in_its_first_update_goes_on_to_the_same_end(whole, tmp_path):
    class Killed(Callback):
        def on_step_end(self, trainer):
            raise KeyboardInterrupt

    options = {**SMALL, "eval_every": 5}
    other = fit("toyworld", env=Short, run=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        fit("toyworld", env=Short, run=tmp_path / "a", callbacks=[Killed()], **options)
    assert Run.load(tmp_path / "a", env=Short).weights.name == "step-000000"
    resumed = fit("toyworld", env=Short, run=tmp_path / "a", resume=True, **options)
    assert without_times(resumed.directory) == without_times(other.directory)


@pytest.mark.parametrize("resume", [False, True])
def test_a_directory_that_is_trained_in_is_refused_before_a_model_is_built(whole, toy, monkeypatch, resume):
    def built(self, config):
        raise AssertionError("a model is built")

    monkeypatch.setattr(toy.ToyWorld, "__init__", built)
    with RunLock(whole.directory), pytest.raises(ConfigurationError, match="is being trained in by process"):
        fit("toyworld", env=Short, run=whole.directory, resume=resume, **{**SMALL, "steps": 60})


def test_an_environment_that_cannot_be_closed_loses_nothing(tmp_path, caplog):
    class Broken(Short):
        def close(self):
            raise RuntimeError("the simulator is gone")

    run = fit("toyworld", env=Broken, run=tmp_path / "a", **SMALL)
    assert run.status == "finished"
    assert run.evaluation.trained.returns == (4.0, 4.0)
    assert run.evaluate(episodes=1).mean == 4
    assert "Broken raised in close: RuntimeError: the simulator is gone" in caplog.text


def test_an_environment_without_an_end_is_evaluated_and_counted(tmp_path, caplog):
    class Endless(Short):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, False, False, {}

    options = {**SMALL, "eval_max_steps": 50, "eval_every": 20}
    run = fit("toyworld", env=Endless, run=tmp_path / "a", **options)
    assert run.evaluation.trained.cut_returns == run.evaluation.random.cut_returns == (50.0, 50.0)
    last = without_times(tmp_path / "a")[-1]
    assert (last["eval/unfinished"], last["eval/cut_return"]) == (2, 50.0)
    assert "eval/return" not in last
    assert run.evaluate(episodes=1).cut_returns == (50.0,)


def test_the_manifest_tells_the_time_of_training_from_that_of_evaluations(whole):
    manifest = json.loads((whole.directory / "run_manifest.json").read_text())
    lines = (whole.directory / "metrics.jsonl").read_text().splitlines()
    spent = sum(json.loads(line).get("eval/seconds", 0) for line in lines)
    assert manifest["eval_seconds"] == pytest.approx(spent, abs=0.02)
    assert manifest["seconds"] > 0
