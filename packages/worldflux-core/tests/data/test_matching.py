"""Recorded data in a model's own terms: matched by name, and both sides named where they differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec, ModelIOContract, ObservationSpec, vector
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.data.matching import matched

CAMERA = ModalitySpec("image", (3, 8, 8), "uint8")
TASK = ModalitySpec("other", (), "int64")


def model(modalities, action=None, keys=("obs", "actions", "rewards")):
    """What a model of these observations says of itself."""
    action = action or ActionSpec("continuous", 2)
    contract = ModelIOContract(ObservationSpec(modalities), action, required_batch_keys=keys)
    return SimpleNamespace(io_contract=lambda: contract)


@pytest.fixture
def dataset():
    lengths = [4, 6]
    columns = {
        "obs/state": np.arange(30, dtype=np.float32).reshape(10, 3),
        "obs/camera": np.zeros((10, *CAMERA.shape), np.uint8),
        "action": np.zeros((10, 2), np.float32),
        "reward": np.ones(10, np.float32),
        "info/task": np.repeat([0, 1], lengths),
    }
    return Dataset(
        Recording(
            "memory",
            Path("kitchen"),
            {"state": vector(3), "camera": CAMERA},
            ActionSpec("continuous", 2),
            EpisodeTable.of("ab", lengths),
            columns,
            info_spec={"task": TASK},
        )
    )


def test_a_model_is_shown_what_it_observes_and_nothing_else_is_read(dataset, monkeypatch):
    read = []
    gather = Recording.gather
    monkeypatch.setattr(Recording, "gather", lambda self, name, *a: read.append(name) or gather(self, name, *a))
    batch = matched(dataset, model({"state": vector(3)})).windows(3).sample(4)
    assert list(batch.obs) == ["state"]
    assert batch.rewards.shape == (4, 3)
    assert "obs/camera" not in read


def test_what_is_recorded_beside_the_observations_may_be_observed(dataset):
    batch = matched(dataset, model({"state": vector(3), "task": TASK})).windows(3).sample(50)
    assert torch.equal(batch.obs["task"], (batch.obs["state"][..., 0] >= 12).long())


def test_the_same_episodes_stay(dataset):
    part = matched(dataset.select([1]), model({"state": vector(3)}))
    assert part.episodes.ids == ("b",)
    assert part.episode(0)["obs/state"][0, 0] == 12


def test_data_that_is_just_what_is_observed_is_left_as_it_is(dataset):
    assert matched(dataset, model({"state": vector(3), "camera": CAMERA})) is dataset


@pytest.mark.parametrize(
    ("modalities", "action", "told"),
    [
        ({"stat": vector(3)}, None, r"observes 'stat' \[3\], but kitchen shows 'state' \[3\].*Did you mean 'state'"),
        ({"state": vector(4)}, None, r"'state' of kitchen has shape \[3\], the model takes \[4\]"),
        ({"camera": replace(CAMERA, shape=(3, 16, 16))}, None, r"\[3, 8, 8\].*\[3, 16, 16\].*another size"),
        ({"state": vector(3, dtype="int64")}, None, r"'state' of kitchen is float32, the model takes int64"),
        ({"state": vector(3)}, ActionSpec("continuous", 3), "kitchen are continuous of size 2.*continuous of size 3"),
        ({"state": vector(3)}, ActionSpec("discrete", 2), "kitchen are continuous of size 2.*discrete of size 2"),
    ],
)
def test_a_mismatch_names_both_sides(dataset, modalities, action, told):
    with pytest.raises(ConfigurationError, match=told):
        matched(dataset, model(modalities, action), name="kitchen")


def test_who_learns_from_rewards_is_told_that_there_are_none(dataset):
    del dataset.recording.columns["reward"]
    with pytest.raises(
        ConfigurationError, match=r"kitchen has no rewards \(no column reward,.*SimpleNamespace learns from"
    ):
        matched(dataset, model({"state": vector(3)}), name="kitchen")
    batch = matched(dataset, model({"state": vector(3)}, keys=("obs", "actions"))).windows(3).sample(2)
    assert batch.rewards is None


def test_with_a_frame_skip_the_actions_are_those_of_several_rows(dataset):
    wide = model({"state": vector(3)}, ActionSpec("continuous", 4))
    with pytest.raises(ConfigurationError, match="size 2"):
        matched(dataset, wide)
    skipped = model({"state": vector(3)}, dataset.windows(2, frame_skip=2).action_spec)
    assert matched(dataset, skipped, frame_skip=2).windows(2, frame_skip=2).sample(1).actions.shape == (1, 2, 4)
