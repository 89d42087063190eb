"""A mistake is met at the front door, before anything is written: what is wrong, and what to do."""

from __future__ import annotations

import pytest

pytest.importorskip("gymnasium")

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box

import worldflux
from worldflux.cli import main
from worldflux.core.batch import Batch
from worldflux.core.errors import CheckpointError, ConfigurationError, ValidationError
from worldflux.core.payloads import ActionPayload

SHORT = {"steps": 40, "eval_episodes": 1, "device": "cpu"}


class Arm(gymnasium.Env):
    """Three numbers, and two actions as far as ``bound``."""

    observation_space = Box(-1, 1, (3,))
    bound = 2.0

    def __init__(self) -> None:
        self.action_space = Box(-self.bound, self.bound, (2,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}


class Unbounded(Arm):
    bound = np.inf


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        ("CartPole-v1", {"prior": "gaussian"}, "actions are discrete.*set prior='categorical'"),
        ("Pendulum-v1", {"prior": "categorical"}, "actions are continuous.*set prior='gaussian'"),
        (Unbounded, {}, "has no finite bounds.*give it the bounds that make sense, as in .*TransformAction"),
        (Arm, {"num_elites": 200}, "num_elites 200 must not exceed num_samples 128"),
        (Arm, {"horizon": 0}, "horizon is 0, expected a whole number"),
        (Arm, {"horizon": 2.5}, "horizon is 2.5, expected a whole number"),
        (Arm, {"num_tasks": 2, "episodic": True}, "episodic is for one task"),
        (Arm, {"num_tasks": 2, "action_dims": (2,)}, "one entry for each of 2 tasks, got 1"),
    ],
)
def test_a_run_that_cannot_work_does_not_begin(tmp_path, env, options, message):
    with pytest.raises(ConfigurationError, match=message):
        worldflux.fit("tdmpc2:ci", env=env, run=tmp_path / "run", model_options=options, **SHORT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("env", "setting", "message"),
    [
        ("CartPole-v1", "prior=gaussian", "set prior='categorical'"),
        ("Pendulum-v1", "num_elites=200", "num_elites 200 must not exceed num_samples 128"),
        ("Pendulum-v1", "num_pi_trajs=128", "num_pi_trajs 128 must be below num_samples 128"),
        ("Pendulum-v1", "horizon=0", "horizon is 0, expected a whole number"),
        ("Pendulum-v1", "horzon=5", "Did you mean 'horizon'"),
    ],
)
def test_on_the_command_line_it_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, env, setting, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["train", "tdmpc2:ci", "--env", env, "--set", setting])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not list(tmp_path.iterdir())


def test_several_tasks_in_an_environment_that_tells_none_apart_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"differ in \['task'\]: have the environment show it"):
        worldflux.fit("tdmpc2:ci", env=Arm, run=tmp_path / "run", model_options={"num_tasks": 3}, **SHORT)
    assert not list(tmp_path.iterdir())


def small(**options):
    return worldflux.create_world_model("tdmpc2:ci", obs_shape=(3,), action_dim=2, mlp_dim=16, enc_dim=16, **options)


class Rows:
    """Batches of nothing, without terminals."""

    def sample(self, request):
        shape = request.batch_size, request.seq_len
        return Batch(obs=torch.zeros(*shape, 3), actions=torch.zeros(*shape, 2), rewards=torch.zeros(shape))


def train(model, run, **options):
    config = worldflux.TrainingConfig(output_dir=str(run), total_steps=1, batch_size=2, device="cpu")
    return worldflux.Trainer(model, config).train(Rows(), **options)


def test_training_that_needs_ends_says_so_when_the_data_has_none(tmp_path):
    train(small(), tmp_path / "fine")
    with pytest.raises(ValidationError, match="no 'terminations'.*build the model with episodic=False"):
        train(small(episodic=True), tmp_path / "run")


def test_a_checkpoint_of_another_size_is_not_resumed(tmp_path):
    train(small(), tmp_path)
    with pytest.raises(CheckpointError, match="belongs to another model.*has shape .*: resume with the settings"):
        train(small(latent_dim=128), tmp_path, num_steps=2, resume_from=tmp_path)


def test_a_saved_model_of_another_size_is_not_trained_further(tmp_path):
    small().save_pretrained(tmp_path / "model")
    options = {"latent_dim": 128}
    with pytest.raises(ConfigurationError, match="latent_dim=64, not 128"):
        worldflux.fit(str(tmp_path / "model"), env=Arm, run=tmp_path / "run", model_options=options, **SHORT)


def test_weights_of_another_size_are_refused_by_the_importer(cases):
    case = cases("state")
    with pytest.raises(ConfigurationError, match="latent_dim = 7, but the weights have .* checkpoint of another size"):
        worldflux.import_weights(case.weights, importer="official-tdmpc2", config={**case.settings, "latent_dim": 7})


def test_a_plan_says_as_many_steps_as_it_has():
    model = small()
    plan = ActionPayload("continuous", torch.zeros(3, 1, 2), extras={"wf.planner.horizon": 4})
    with pytest.raises(ValidationError, match=r"Horizon mismatch: the plan says 4, its tensor is \(3, 1, 2\)"):
        model.rollout(model.encode(torch.zeros(1, 3)), plan)
