"""Several tasks in one recording: each has its number, its actions and its episodes' length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import worldflux
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec, vector
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.training import Trainer, TrainingConfig

SMALL = {"enc_dim": 16, "mlp_dim": 16, "latent_dim": 16}
SHORT = {"updates": 3, "batch_size": 8, "device": "cpu", "threads": 1}


def recorded(tasks=(0, 1, 1, 0, 1), *, dtype="int64") -> Dataset:
    """Episodes of 31 rows of task 0, which has 2 actions, and 21 of the others, which have 3; padded with zeros."""
    lengths = [31 if task == 0 else 21 for task in tasks]
    task = np.repeat(tasks, lengths).astype(dtype)
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (len(task), 3)).astype(np.float32)
    action[task == 0, 2] = 0
    columns = {
        "obs/state": rng.normal(size=(len(task), 4)).astype(np.float32),
        "action": action,
        "reward": rng.normal(size=len(task)).astype(np.float32),
        "info/task": task,
    }
    table, info = EpisodeTable.of(range(len(tasks)), lengths), {"task": ModalitySpec("other", (), dtype)}
    specs = {"obs_spec": {"state": vector(4)}, "action_spec": ActionSpec("continuous", 3), "info_spec": info}
    return Dataset(Recording("memory", Path("mt"), episodes=table, columns=columns, **specs))


def test_the_tasks_of_a_recording_are_what_is_learned(tmp_path):
    run = worldflux.fit("tdmpc2:ci", data=recorded(), run=tmp_path, model_options=SMALL, held_out=0.4, **SHORT)
    config = run.model.config
    assert (config.num_tasks, config.action_dims, config.episode_lengths) == (2, (2, 3), (30, 20))
    assert run.model.action_masks.tolist() == [[1, 1, 0], [1, 1, 1]]
    before = worldflux.create_world_model(
        "tdmpc2:ci", observation_modalities={"state": vector(4)}, action_spec=ActionSpec("continuous", 3),
        num_tasks=2, seed=0, **SMALL,
    )  # fmt: skip
    moved = (run.model.task_embedding.weight != before.task_embedding.weight).all(1)
    assert moved.tolist() == [True, True]


def test_what_is_held_out_shows_its_task(tmp_path):
    run = worldflux.fit("tdmpc2:ci", data=recorded(), run=tmp_path, model_options=SMALL, held_out=0.4, **SHORT)
    batch = run.held_out().windows(3).sample(20)
    assert torch.equal(batch.obs["task"], batch.extras["wf.data.task"])
    assert run.model.encode({name: rows[:, 0] for name, rows in batch.obs.items()})["task"].shape == (20,)


def test_what_is_said_of_the_tasks_is_kept(tmp_path):
    options = {**SMALL, "action_dims": (3, 3), "episode_lengths": (50, 60)}
    run = worldflux.fit("tdmpc2:ci", data=recorded(), run=tmp_path, model_options=options, **SHORT)
    assert (run.model.config.num_tasks, run.model.config.action_dims) == (2, (3, 3))
    assert run.model.config.episode_lengths == (50, 60)


def test_one_task_is_no_several(tmp_path):
    run = worldflux.fit("tdmpc2:ci", data=recorded((0, 0, 0)), run=tmp_path, model_options=SMALL, **SHORT)
    assert run.model.config.num_tasks == 1
    assert list(run.model.config.modalities) == ["state"]


def test_a_task_that_is_no_number_from_0_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="episode '1' of mt tells its task as int64"):
        worldflux.fit("tdmpc2:ci", data=recorded((0, -1, 1)), run=tmp_path, model_options=SMALL, **SHORT)


def test_batches_of_a_recording_are_learned_from_as_they_are(tmp_path):
    data = recorded()
    model = worldflux.create_world_model(
        "tdmpc2:ci", observation_modalities=data.obs_spec, action_spec=data.action_spec, num_tasks=2, **SMALL
    )
    config = TrainingConfig(total_steps=2, batch_size=8, sequence_length=4, output_dir=str(tmp_path), device="cpu")
    Trainer(model, config).train(data)
    batch = data.windows(4).sample(8)
    other = data.windows(4).sample(8)
    other.extras["wf.data.task"] = 1 - batch.extras["wf.data.task"]
    model.eval()
    model.seed(0)
    first = model.loss(batch).loss
    model.seed(0)
    batch.extras["wf.data.task"] = other.extras["wf.data.task"]
    assert model.loss(batch).loss != first
