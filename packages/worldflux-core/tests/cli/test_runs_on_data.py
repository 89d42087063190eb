"""Runs that learn from recorded episodes: what is held out and measured, going on exactly, starting from others."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import Dataset, DatasetError, DatasetWriter, EpisodeTable, Recording, Windows
from worldflux.evals import read_metrics
from worldflux.experiment import Run, fit, resume_run
from worldflux.experiment.experience import Experience
from worldflux.experiment.settings import Settings
from worldflux.training import Callback, Trainer, TrainingConfig

gym = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.usefixtures("toy")
SMALL = {"updates": 12, "eval_every": 4, "save_every": 0, "device": "cpu", "threads": 1, "eval_episodes": 2}


class Doors(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(2, self.time / 4, np.float32), float(action), False, self.time == 4, {}


def write(path, episodes=10, *, seed=0, size=2, kind="discrete", rows=(5, 9)):
    rng = np.random.default_rng(seed)
    with DatasetWriter(path, {"obs": vector(size)}, ActionSpec(kind, 3)) as writer:
        for _ in range(episodes):
            length = int(rng.integers(*rows))
            action = np.eye(3, dtype=np.float32)[rng.integers(3, size=length)]
            obs, reward = rng.normal(size=(length, size)).astype(np.float32), np.ones(length, np.float32)
            writer.append({"obs/obs": obs, "action": action, "reward": reward * (np.arange(length) > 0)})
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, toy):
    return fit("toyworld", data=data, run=tmp_path_factory.mktemp("run") / "a", **SMALL)


def weights(run):
    return run.model.state_dict()["step.weight"]


def same(one, other):
    return torch.equal(weights(one), weights(other))


# --- what it is -------------------------------------------------------------------------------------------------------


def test_a_run_on_data_is_finished_without_an_environment(run):
    assert (run.status, run.evaluation) == ("finished", None)
    for name in ("model", "metrics.jsonl", "held_out.json", "learning_curve.png"):
        assert (run.directory / name).exists()


def test_it_is_opened_from_its_directory_alone(run, data):
    opened = Run.load(run.directory)
    assert repr(opened) == repr(run)
    for part in ("toyworld from set", "finished", "12 updates asked for", "on held-out data"):
        assert part in repr(opened)
    assert same(opened, run)
    assert opened.learned == run.learned
    assert opened.experience.sets[0].name == str(data)


def test_what_is_held_out_is_never_learned_from(data, tmp_path, monkeypatch):
    drawn, plain = [], Windows.sample

    def sample(self, request):
        drawn.append(self)
        return plain(self, request)

    monkeypatch.setattr(Windows, "sample", sample)
    made = fit("toyworld", data=data, held_out=0.3, run=tmp_path, **SMALL)
    held_out = set(made.held_out().episodes.ids)
    learned = {one for windows in drawn for one in windows.dataset.episodes.ids} - held_out
    assert len(held_out) == 3
    assert len(learned) == 7
    assert all(set(w.dataset.episodes.ids) in (held_out, learned) for w in drawn)


def test_losses_on_held_out_data_are_logged_now_and_then_and_at_the_end(run):
    told = [
        (row["step"], row["eval/loss"]) for row in read_metrics(run.directory / "metrics.jsonl") if "eval/loss" in row
    ]
    assert [step for step, _ in told] == [4, 8, 12]
    assert run.learned.losses["loss"] == told[-1][1]
    assert run.learned.episodes == 1


def test_the_windows_it_is_measured_on_are_the_same_every_time(data, tmp_path):
    made = fit("toyworld", data=data, run=tmp_path, learning_rate=0.0, **SMALL)
    told = {row["eval/loss"] for row in read_metrics(made.directory / "metrics.jsonl") if "eval/loss" in row}
    assert len(told) == 1


def test_the_mean_return_of_the_data_is_beside_what_is_learned(run):
    lengths = Run.load(run.directory).experience.sets[0].whole.episodes.lengths
    assert run.learned.behaviour == pytest.approx(float(np.mean(lengths - 1)))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("episodes", [2, 3, 5])
def test_of_few_episodes_one_at_least_is_held_out_and_one_learned_from(tmp_path, episodes, share):
    name = str(write(tmp_path / "set", episodes))
    (one,) = Experience.open(Settings(model="toyworld", data=[name], held_out=share)).sets
    held_out, learned = set(one.held_out.episodes.ids), set(one.training.episodes.ids)
    assert (len(held_out | learned), held_out & learned) == (episodes, set())
    assert len(held_out) == min(max(1, round(share * episodes)), episodes - 1)


def test_of_a_single_episode_none_is_held_out_and_the_way_out_is_named(tmp_path):
    data = write(tmp_path / "set", 1, rows=(9, 10))
    with pytest.raises(ConfigurationError, match="set has a single episode, of which none .*--held-out 0"):
        fit("toyworld", data=data, run=tmp_path / "a", **SMALL)
    assert fit("toyworld", data=data, held_out=0, run=tmp_path / "b", **SMALL).status == "finished"


def test_everything_is_learned_from_where_nothing_is_held_out(data, tmp_path):
    made = fit("toyworld", data=data, held_out=0, run=tmp_path, **SMALL)
    assert made.learned is None
    with pytest.raises(ConfigurationError, match="held out nothing of"):
        made.held_out()


def test_a_run_in_an_environment_holds_no_data(tmp_path):
    made = fit("toyworld", env=Doors, run=tmp_path, steps=40, eval_episodes=1, eval_every=0, device="cpu")
    with pytest.raises(ConfigurationError, match="learned from an environment and names no data"):
        made.held_out()


def test_a_run_on_data_that_is_asked_to_act_says_which_environment_is_missing(run):
    with pytest.raises(ConfigurationError, match="names no environment to act in: name one"):
        Run.load(run.directory).evaluate(episodes=1)
    assert Run.load(run.directory, env=Doors).evaluate(episodes=1).episodes == 1


def test_a_saved_model_is_opened_with_data_alone_and_all_of_that_is_held_out(run, data):
    opened = Run.load(run.directory / "model", data=data)
    assert len(opened.held_out().episodes) == 10
    assert same(opened, run)


def test_the_policy_is_evaluated_in_an_environment_that_nothing_is_collected_in(data, tmp_path):
    made = fit("toyworld", data=data, eval_env=Doors, run=tmp_path, **SMALL)
    assert made.evaluation.trained.episodes == 2
    assert made.learned is not None
    assert not any("env_steps" in row for row in read_metrics(tmp_path / "metrics.jsonl"))
    assert same(made, Run.load(tmp_path))
    assert Run.load(tmp_path, env=Doors).evaluation == made.evaluation


# --- going on ---------------------------------------------------------------------------------------------------------


class Leave(Callback):
    """Ends the process's training as a kill would, after some updates."""

    def __init__(self, after):
        self.after = after

    def on_step_end(self, trainer):
        if trainer.step == self.after:
            raise RuntimeError("killed")


def stopped(data, path, **options):
    with pytest.raises(RuntimeError, match="killed"):
        fit("toyworld", data=data, run=path, callbacks=[Leave(7)], **{**SMALL, "save_every": 3, **options})


def test_a_run_goes_on_bit_for_bit(run, data, tmp_path):
    stopped(data, tmp_path)
    again = resume_run(tmp_path)
    assert same(again, run)
    assert again.learned == run.learned


def test_several_sets_go_on_bit_for_bit(data, tmp_path):
    sets = {"data": [data, write(tmp_path / "other", seed=1)], "data_weights": [0.7, 0.3]}
    whole = fit("toyworld", run=tmp_path / "a", **sets, **SMALL)
    stopped(run_data := sets["data"], tmp_path / "b", data_weights=sets["data_weights"])
    assert same(resume_run(tmp_path / "b"), whole)
    assert not same(fit("toyworld", data=run_data, run=tmp_path / "c", **SMALL), whole)


def test_other_data_in_its_place_is_refused(tmp_path):
    path = write(tmp_path / "set")
    stopped(path, tmp_path / "run")
    shutil.rmtree(path)
    write(path, seed=5)
    with pytest.raises(ConfigurationError, match="other data than the run .* learned from"):
        resume_run(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="other data than the run"):
        Run.load(tmp_path / "run").held_out()


def test_data_that_has_moved_is_named_anew(run, tmp_path):
    stopped(path := write(tmp_path / "set"), tmp_path / "run")
    path.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="is not there.* is named where it is now"):
        resume_run(tmp_path / "run")
    again = resume_run(tmp_path / "run", data=tmp_path / "moved")
    assert same(again, run)
    assert again.settings.data == [str(tmp_path / "moved")]
    assert len(Run.load(tmp_path / "run").held_out().episodes) == 1


def test_a_finished_run_is_given_back_and_goes_on_for_more_updates(data, tmp_path):
    first = fit("toyworld", data=data, run=tmp_path, **SMALL)
    assert resume_run(tmp_path).learned == first.learned
    longer = resume_run(tmp_path, updates=20)
    assert int(longer.model.updates) == 20
    steps = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl") if "eval/loss" in row]
    assert steps == [4, 8, 12, 16, 20]
    with pytest.raises(ConfigurationError, match="has taken 20 updates already, it cannot go on to 5"):
        resume_run(tmp_path, updates=5)


def test_what_was_opened_by_the_caller_is_given_again(tmp_path):
    table = EpisodeTable.of(range(4), [8] * 4)
    rng = np.random.default_rng(0)
    columns = {
        "obs/obs": rng.normal(size=(32, 2)).astype("f"),
        "action": np.eye(3, dtype="f")[rng.integers(3, size=32)],
    }
    mine = Dataset(Recording("mine", Path("x"), {"obs": vector(2)}, ActionSpec("discrete", 3), table, columns))
    made = fit("toyworld", data=mine, run=tmp_path, **SMALL)
    assert made.learned.behaviour is None
    assert made.settings.data == [f"mine:{Path('x').absolute()}"]
    assert Run.load(tmp_path, data=mine).held_out().episodes.ids == made.held_out().episodes.ids


# --- with an environment, or from another run -------------------------------------------------------------------------


def test_with_an_environment_the_replay_starts_full_of_the_data(data, tmp_path):
    first = []

    class Look(Callback):
        def on_step_end(self, trainer):
            first.append((trainer.source.env_steps, len(trainer.source.replay)))

    made = fit("toyworld", env=Doors, data=data, run=tmp_path, steps=30, callbacks=[Look()], eval_every=0, device="cpu")
    learned = len(made.experience.sets[0].training)
    assert first[0][0] == 0  # an update before the first environment step
    assert learned - 8 <= first[0][1] <= learned
    assert first[-1][0] == 30
    assert made.learned is not None
    assert made.evaluation is not None


def test_a_run_with_both_goes_on_bit_for_bit(data, tmp_path):
    options = {"env": Doors, "data": data, "steps": 30, "eval_every": 0, "device": "cpu", "threads": 1}
    whole = fit("toyworld", run=tmp_path / "a", **options)
    with pytest.raises(RuntimeError, match="killed"):
        fit("toyworld", run=tmp_path / "b", save_every=4, callbacks=[Leave(20)], **options)
    assert same(resume_run(tmp_path / "b", env=Doors), whole)


def test_a_run_starts_from_the_weights_of_another(run, data, tmp_path):
    still = {**SMALL, "learning_rate": 0.0}
    again = fit(start_from=run.directory, data=data, run=tmp_path / "a", **still)
    named = fit("toyworld", start_from=run.directory, data=data, run=tmp_path / "b", **still)
    saved = fit(start_from=run.directory / "model", env=Doors, run=tmp_path / "c", steps=30, learning_rate=0.0)
    assert same(again, run)
    assert same(named, run)
    assert same(saved, run)


def test_a_run_starts_from_one_that_did_not_finish(data, tmp_path):
    stopped(data, tmp_path / "a", model_options={"explode_at": 90})
    newest = Run.load(tmp_path / "a")
    again = fit(start_from=tmp_path / "a", data=data, run=tmp_path / "b", **SMALL, learning_rate=0.0)
    assert same(again, newest)
    assert again.model.config.explode_at == 90


def test_weights_of_another_kind_of_data_name_both_sides(run, tmp_path):
    wide = write(tmp_path / "wide", size=3)
    with pytest.raises(ConfigurationError, match=r"'obs' of .*wide has shape \[3\], the model takes \[2\]"):
        fit(start_from=run.directory, data=wide, run=tmp_path / "a", **SMALL)
    with pytest.raises(ConfigurationError, match=r"built for toyworld from wide cannot start from the weights of"):
        fit("toyworld", start_from=run.directory, data=wide, run=tmp_path / "b", **SMALL)


def test_the_data_of_another_environment_is_refused_before_anything_is_collected(tmp_path):
    wide = write(tmp_path / "wide", size=3)
    with pytest.raises(ConfigurationError, match=r"'obs' of .*wide has shape \[3\], the model takes \[2\]"):
        fit("toyworld", env=Doors, data=wide, run=tmp_path / "a", steps=30)


@pytest.mark.parametrize("env", [None, "an environment"])
def test_actions_that_no_policy_takes_are_refused_with_an_environment_and_said_without(tmp_path, caplog, env):
    with DatasetWriter(tmp_path / "wild", {"obs": vector(2)}, ActionSpec("continuous", 2)) as writer:
        for _ in range(4):
            writer.append({"obs/obs": np.zeros((8, 2)), "action": np.full((8, 2), 1.5), "reward": np.zeros(8)})

    class Slides(Doors):
        action_space = gym.spaces.Box(-1.5, 1.5, (2,))

    told = "actions of .*wild reach 1.5, but a policy acts in"
    if env is None:
        assert fit("toyworld", data=tmp_path / "wild", run=tmp_path / "a", **SMALL).status == "finished"
        assert re.search(told, caplog.text)
    else:
        with pytest.raises(ConfigurationError, match=told):
            fit("toyworld", data=tmp_path / "wild", eval_env=Slides, run=tmp_path / "a", **SMALL)


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"steps": 3}, "steps counts environment steps, and no environment is collected in: say updates"),
        ({"env": Doors, "updates": 3}, "updates is for training from data alone"),
        ({"env": Doors, "eval_env": Doors}, "eval_env is for a run that collects in no environment"),
        ({"env": Doors, "frame_skip": 2}, "frame_skip is for training from data alone"),
        ({"data_weights": [1.0, 2.0]}, "2 data_weights for 1 set of data"),
        ({"held_out": 1.0}, "held_out"),
        ({"obs": ["pixels"]}, r"obs names 'pixels', but .* shows \['obs'\]"),
        ({"sequence_length": 90}, "the part that is learned from of .* has no sequence of 90 rows"),
        ({"data": 3}, "data is 3, expected the path of a dataset"),
        ({"data": None}, "a run learns from an environment, from data, or from both"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(data, tmp_path, asked, told):
    with pytest.raises(ConfigurationError, match=told):
        fit("toyworld", run=tmp_path, **{"data": data, **asked})


def test_a_set_of_one_episode_holds_none_out_unasked(tmp_path):
    one = write(tmp_path / "one", episodes=1)
    with pytest.raises(ConfigurationError, match=r"none can be held out: held_out=0"):
        fit("toyworld", data=one, run=tmp_path / "a", **SMALL)


def test_every_kth_row_is_learned_from(data, tmp_path):
    made = fit("toyworld", data=data, frame_skip=2, run=tmp_path, **SMALL)
    assert made.model.config.action_dim == 6


def test_a_trainer_takes_a_dataset_as_it_takes_a_replay(data, tmp_path, run):
    from worldflux.data import open_dataset

    trainer = Trainer(
        run.model, TrainingConfig(total_steps=2, output_dir=str(tmp_path), batch_size=2, sequence_length=4)
    )
    trainer.train(open_dataset(data))
    assert trainer.status == "finished"
