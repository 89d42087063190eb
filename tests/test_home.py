"""``~`` is the user's home in every path that is given, in Python and to the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import worldflux
from worldflux import Replay, ReplayBuffer, Trainer, TrainingConfig, WorldModel, make_env
from worldflux.cli import main
from worldflux.data.storage import load_arrays
from worldflux.evals import animation_path
from worldflux.evals.curve import read_metrics, save_learning_curve
from worldflux.experiment import Run, fit, resume_run
from worldflux.training import JSONLCallback, find_checkpoint

TINY = {"obs_shape": (3,), "action_dim": 2}
FIT = {"num_envs": 1, "batch_size": 2, "sequence_length": 4, "replay_ratio": 1, "eval_every": 0, "eval_episodes": 1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home that is empty, apart from the empty working directory: nothing may be made there."""
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    home.mkdir(), cwd.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(cwd)
    yield home
    assert not list(cwd.iterdir())


def short():
    import gymnasium

    return gymnasium.wrappers.TimeLimit(gymnasium.make("CartPole-v1").unwrapped, 10)


def test_models_and_options_are_saved_and_loaded_there(home):
    model = worldflux.create_world_model("dreamer:ci", **TINY)
    assert model.save_pretrained("~/a/model") == home / "a" / "model"
    assert worldflux.create_world_model("~/a/model").config == WorldModel.from_pretrained("~/a/model").config
    model.config.save("~/a/config")
    assert type(model.config).load("~/a/config/config.json") == model.config
    TrainingConfig(seed=4).save("~/a/training.json")
    assert TrainingConfig.load("~/a/training.json").seed == 4


def test_experience_is_saved_and_loaded_there(home):
    env = make_env("CartPole-v1")
    replay = Replay(8, obs_spec=env.obs_spec, action_spec=env.action_spec)
    assert replay.save("~/replay") == home / "replay"
    replay.load("~/replay")
    assert load_arrays("~/replay")[1]["rows"] == 0
    buffer = ReplayBuffer(8, (3,), 2)
    buffer.add_episode(np.zeros((3, 3), np.float32), np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
    buffer.save("~/buffer.npz")
    assert len(ReplayBuffer.load("~/buffer.npz")) == 2


def test_a_trainer_writes_and_resumes_there(home):
    def trainer(steps):
        config = TrainingConfig(
            output_dir="~/out", total_steps=steps, batch_size=2, sequence_length=3, device="cpu", log_interval=1
        )
        return Trainer(worldflux.create_world_model("mbpo:ci", **TINY), config, [JSONLCallback("~/log.jsonl")])

    rows = 2 + trainer(1).model.context_rows
    batch = {
        "obs": torch.randn(2, rows, 3), "actions": torch.zeros(2, rows, 2), "rewards": torch.zeros(2, rows),
        **dict.fromkeys(("is_first", "is_last", "is_terminal"), torch.zeros(2, rows, dtype=torch.bool)),
    }  # fmt: skip
    trainer(1).train([batch])
    again = trainer(2)
    again.train([batch], resume_from="~/out")
    assert find_checkpoint("~/out") == home / "out" / "checkpoints" / "step-000002"
    assert len(read_metrics("~/log.jsonl")) == 2 and again.step == 2
    again.load_checkpoint("~/out/checkpoints")


def test_a_run_is_made_gone_on_with_and_looked_into_there(home, capsys):
    finished = fit("dreamer:ci", env=short, run="~/runs/cartpole", steps=40, **FIT)
    assert finished.directory == home / "runs" / "cartpole"
    assert resume_run("~/runs/cartpole", env=short, steps=50).status == "finished"
    run = Run.load("~/runs/cartpole", env=short)
    with pytest.raises(worldflux.ConfigurationError, match="already holds a run"):
        fit("dreamer:ci", env=short, run="~/runs/cartpole", steps=40, **FIT)
    result = run.imagine(context=2, horizon=3, sequences=2)
    assert run.save_imagination(result, "~/pictures/a.gif")[1] == home / "pictures" / "a.json"
    assert run.save_learning_curve("~/pictures/b.png") == home / "pictures" / "b.png"
    assert save_learning_curve("~/runs/cartpole/metrics.jsonl", "~/pictures/c.png").is_file()
    assert animation_path("~/a.gif") == home / "a.gif"


def test_the_command_writes_and_reads_there(home, capsys):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FIT.items()]

    def ask(*words):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        assert not ended.value.code
        return json.loads(capsys.readouterr().out)

    ask("train", "dreamer:ci", "--env", "CartPole-v1", "--run", "~/run", "--steps", "40", *options)
    ask("train", "--run", "~/run", "--resume", "--steps", "50")
    assert ask("eval", "~/run", "--episodes", "1")["trained"]["episodes"] == 1
    ask("imagine", "~/run", "--context=2", "--horizon=3", "--sequences=2", "--random", "--out", "~/seen.gif")
    assert (home / "seen.gif").is_file()
    assert ask("plugins", "new", "demo", "--directory", "~/demo")["directory"] == str(home / "demo")


def test_official_weights_are_looked_for_there(home):
    with pytest.raises(worldflux.CheckpointError, match=str(home / "official" / "weights.pt")):
        worldflux.import_weights("~/official/weights.pt", importer="official-tdmpc2", config={})


def test_a_name_that_only_looks_like_a_home_is_a_name(home, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    model = worldflux.create_world_model("mbpo:ci", **TINY)
    assert model.save_pretrained(Path("~backup_of_nobody")) == Path("~backup_of_nobody")
    assert worldflux.create_world_model("./~backup_of_nobody").config == model.config
