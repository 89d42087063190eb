"""Every family learns from recorded episodes as it does from an environment, with nothing but the name changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import worldflux
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec, vector
from worldflux.data import Dataset, EpisodeTable, Recording
from worldflux.experiment import Run, judge
from worldflux.training import Trainer, TrainingConfig

PAID = ("dreamer:ci", "planet:ci", "tdmpc2:ci", "mbpo:ci")
FAMILIES = (*PAID, "jepa:ci")
SHORT = {"updates": 2, "batch_size": 2, "device": "cpu", "threads": 1}


def recorded(*, rewards: bool = True, ends: bool = True) -> Dataset:
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
    table = EpisodeTable.of(range(6), lengths, [ends, False] * 3)
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


@pytest.mark.parametrize("family", ["tdmpc2:ci", "mbpo:ci"])
def test_a_family_that_learns_from_rewards_says_that_there_are_none(family, tmp_path):
    with pytest.raises(
        ConfigurationError,
        match=r"walks has no rewards .*next.reward.*, and \w+ learns from rewards.*"
        "a family that learns without, as dreamer and planet do",
    ):
        worldflux.fit(family, data=recorded(rewards=False), run=tmp_path, **SHORT)


@pytest.mark.parametrize(
    ("family", "ends", "losses"),
    [
        ("dreamer:ci", False, {"place", "dyn", "rep"}),
        ("dreamer:ci", True, {"place", "dyn", "rep", "con"}),
        ("planet:ci", False, {"place", "kl"}),
    ],
)
def test_of_data_without_rewards_what_is_seen_is_learned_and_judged_and_that_is_said(
    family, ends, losses, tmp_path, caplog
):
    data = recorded(rewards=False, ends=ends)
    run = worldflux.fit(family, data=data, run=tmp_path, held_out=0.34, **SHORT)
    assert set(run.learned.losses) == {"loss", *(f"loss/{name}" for name in losses)}
    assert run.learned.behaviour is None
    assert "the data has no rewards, so the model learns what is seen alone: " in caplog.text
    assert "reward_head False" in caplog.text
    model = Run.load(tmp_path, data=data).model
    assert not {"reward_pred", "policy", "planning"} & model.capabilities
    measured = judge(run, context=2, horizon=4, sequences=4).to_dict()
    assert "model" in measured["observations"]["place"]["mse"]
    assert not {"reward", "returns", "value"} & set(measured)
    assert ("continue" in measured) == ("con" in losses)


@pytest.mark.parametrize("family", ["dreamer:ci", "planet:ci"])
def test_a_world_model_without_rewards_goes_on_bit_for_bit(family, tmp_path):
    data = recorded(rewards=False)
    whole, part = tmp_path / "whole", tmp_path / "part"
    worldflux.fit(family, data=data, run=whole, held_out=0, **SHORT)
    worldflux.fit(family, data=data, run=part, held_out=0, **{**SHORT, "updates": 1})
    worldflux.fit(family, data=data, run=part, held_out=0, resume=True, **SHORT)
    one, other = (Run.load(place, data=data).model.state_dict() for place in (whole, part))
    assert all(one[name].equal(other[name]) for name in one)


def test_an_actor_that_is_asked_for_has_the_dataset_and_the_way_out_named(tmp_path):
    asked = {"model_options": {"actor_critic": True}}
    with pytest.raises(ConfigurationError, match="walks has no rewards .* --set actor_critic=false"):
        worldflux.fit("dreamer:ci", data=recorded(rewards=False), run=tmp_path, **asked, **SHORT)


@pytest.mark.parametrize("acts", [{"env": "Pendulum-v1", "steps": 4}, {"eval_env": "Pendulum-v1", "updates": 2}])
@pytest.mark.parametrize("family", ["dreamer:ci", "planet:ci"])
def test_where_a_policy_acts_data_without_rewards_is_refused(family, acts, tmp_path):
    table, specs = EpisodeTable.of(range(2), [80, 80]), {"obs": vector(3)}
    columns = {"obs/obs": np.zeros((160, 3), np.float32), "action": np.zeros((160, 1), np.float32)}
    pendulum = Recording("memory", Path("swings"), specs, ActionSpec("continuous", 1), table, columns)
    with pytest.raises(ConfigurationError, match="swings has no rewards"):
        worldflux.fit(family, data=Dataset(pendulum), run=tmp_path, batch_size=2, device="cpu", threads=1, **acts)


def test_recorded_images_are_learned_from_and_judged_in_the_size_that_is_asked_for(tmp_path):
    rng, table = np.random.default_rng(0), EpisodeTable.of(range(4), [12] * 4)
    columns = {"obs/camera": rng.integers(0, 256, (48, 3, 20, 28), np.uint8), "action": np.zeros((48, 1), np.float32)}
    specs = {"camera": ModalitySpec("image", (3, 20, 28), "uint8")}, ActionSpec("continuous", 1)
    data = Dataset(Recording("memory", Path("seen"), *specs, table, columns))
    about = {**SHORT, "sequence_length": 4, "held_out": 0.25, "run": tmp_path}
    run = worldflux.fit("dreamer:ci", data=data, image_size=16, **about)
    assert run.model.config.modalities["camera"].shape == (3, 16, 16)
    again = Run.load(tmp_path, data=data)
    other = Dataset(
        Recording("memory", Path("other"), *specs, table, {**columns, "obs/camera": columns["obs/camera"] // 2})
    )
    few = {"context": 2, "horizon": 3, "sequences": 2}
    for judged in (judge(again, **few), judge(run, other, **few)):
        assert "model" in judged.to_dict()["observations"]["camera"]["psnr"]


def test_a_family_without_a_reward_needs_none(tmp_path):
    run = worldflux.fit("jepa:ci", data=recorded(rewards=False), run=tmp_path, held_out=0.34, **SHORT)
    assert run.status == "finished"
