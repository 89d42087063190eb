"""Every family learns from recorded episodes as it does from an environment, with nothing but the name changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import worldflux
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.experiment import Run
from worldflux.training import Trainer, TrainingConfig

FAMILIES = ("dreamer:ci", "planet:ci", "tdmpc2:ci", "mbpo:ci")
SHORT = {"updates": 2, "batch_size": 2, "device": "cpu", "threads": 1}


def recorded(*, rewards: bool = True) -> Dataset:
    """Six short walks of a point that goes where it is pushed, paid for being near 0."""
    rng, lengths = np.random.default_rng(0), [24, 31, 40, 33, 28, 36]
    action = rng.uniform(-1, 1, (sum(lengths), 2)).astype(np.float32)
    starts = np.cumsum(lengths) - lengths
    moved = np.concatenate([np.zeros((1, 2), np.float32), action[:-1]])
    moved[starts] = rng.normal(size=(6, 2))
    place = np.concatenate([np.cumsum(moved[s : s + n], 0) for s, n in zip(starts, lengths, strict=True)])
    columns = {"obs/place": place, "action": action}
    if rewards:
        columns["reward"] = -np.abs(place).sum(1)
    table = EpisodeTable.of(range(6), lengths, [True, False] * 3)
    specs = {"obs_spec": {"place": vector(2)}, "action_spec": ActionSpec("continuous", 2)}
    return Dataset(Recording("memory", Path("walks"), episodes=table, columns=columns, **specs))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_learns_from_data_alone_and_is_opened_again(family, tmp_path):
    data = recorded()
    run = worldflux.fit(family, data=data, run=tmp_path, held_out=0.34, **SHORT)
    assert run.status == "finished"
    assert np.isfinite(run.learned.losses["loss"])
    opened = Run.load(tmp_path, data=data)
    assert opened.held_out().episodes.ids == run.held_out().episodes.ids
    assert list(opened.model.config.modalities) == ["place"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trainer_takes_windows_of_data_as_it_takes_a_replay(family, tmp_path):
    data = recorded()
    model = worldflux.create_world_model(family, observation_modalities=data.obs_spec, action_spec=data.action_spec)
    rows = 16 if family in ("dreamer:ci", "planet:ci") else model.training_defaults().sequence_length
    config = TrainingConfig(total_steps=2, batch_size=2, sequence_length=rows, output_dir=str(tmp_path), device="cpu")
    Trainer(model, config).train(data.windows())
    assert np.isfinite(Trainer(model, config).evaluate(data.windows(boundary="cross"), 1)["loss"])


def test_dreamers_world_model_learns_alone(tmp_path):
    alone = {"model_options": {"actor_critic": False}, "held_out": 0.34}
    run = worldflux.fit("dreamer:ci", data=recorded(), run=tmp_path, **alone, **SHORT)
    assert set(run.learned.losses) == {"loss", *(f"loss/{name}" for name in ("dyn", "rep", "place", "rew", "con"))}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_learns_from_rewards_says_that_there_are_none(family, tmp_path):
    with pytest.raises(ConfigurationError, match=r"walks has no rewards, and \w+ learns from rewards"):
        worldflux.fit(family, data=recorded(rewards=False), run=tmp_path, **SHORT)
