"""Environments for study: many at once are what each alone is, and what is asked for is had or refused by name."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from worldflux.core.errors import CheckpointError, ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.envs import GoalEnv, VectorEnv, make_env

NAMES = ("study:point-goal", "study:two-room", "study:push-block")
ALL = {"vary": "all", "obs": "both", "show_goal": True, "limit": 7}


def actions(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (num, 2)).astype(np.float32)


def equal(one, other, rows=slice(None)) -> bool:
    flags = ("reward", "is_first", "is_last", "is_terminal")
    pairs = [(getattr(one, name), getattr(other, name)) for name in flags]
    for kind in ("obs", "infos"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        assert set(mine) == set(theirs)
        pairs += [(mine[name], theirs[name]) for name in mine]
    return all(np.array_equal(a[rows], b) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("goal", ["place", "offset"])
def test_an_episode_is_the_same_however_many_stand_beside_it(name, goal):
    options = ALL | {"goal": goal, "goal_offset": 20}
    many = make_env(name, num_envs=5, seed=3, env_options=options)
    one = make_env(name, num_envs=1, env_options=options)
    seeds = [11, 12, 13, 14, 15]
    for i in (0, 3):
        for t in range(8):
            row = many.reset(seeds) if t == 0 else many.step(actions(5, t))
            alone = one.reset([seeds[i]]) if t == 0 else one.step(actions(5, t)[i : i + 1])
            assert equal(row, alone, slice(i, i + 1))
            assert np.array_equal(many.states()[i], one.states()[0])
            assert np.array_equal(many.goals().obs["image"][i], one.goals().obs["image"][0])


@pytest.mark.parametrize("name", NAMES)
def test_the_native_vector_is_gymnasium_s_environments_side_by_side(name):
    pytest.importorskip("gymnasium")
    from worldflux.envs.study.gym_env import StudyGymEnv

    native = make_env(name, num_envs=3, seed=5, env_options=ALL)
    others = make_env(lambda: StudyGymEnv(name, options=ALL), num_envs=3, seed=5)
    assert native.obs_spec == others.obs_spec and native.info_spec == others.info_spec
    assert native.single_observation_space == others.single_observation_space
    for t in range(18):  # into the third episode
        row, other = (env.reset() if t == 0 else env.step(actions(3, t)) for env in (native, others))
        assert equal(row, other)
    others.close()


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_a_vector_environment_s(name):
    env = make_env(name, num_envs=3, seed=1, env_options={"limit": 4, "obs": "both"})
    assert isinstance(env, VectorEnv) and isinstance(env, GoalEnv)
    assert env.max_episode_steps == 4
    for t in range(11):
        row = env.reset() if t == 0 else env.step(actions(3, t))
        assert row.is_first.all() == (t % 5 == 0) and row.is_last.all() == (t % 5 == 4)
        assert not row.is_terminal.any() and row.reward.dtype == np.float32
        assert (row.reward == 0).all() == (t % 5 == 0)  # minus the distance elsewhere
        for spec, values in ((env.obs_spec, row.obs), (env.info_spec, row.infos)):
            assert {k: (v.shape[1:], v.dtype.name) for k, v in values.items()} == {
                k: (s.shape, s.dtype) for k, s in spec.items()
            }


def test_a_seed_restarts_the_episodes_and_none_repeats():
    env = make_env("study:two-room", num_envs=2, seed=4, env_options={"limit": 1})
    first = [env.reset(), env.reset()]
    again = [env.reset(4), env.reset()]
    assert equal(first[0], again[0]) and equal(first[1], again[1])
    starts = np.concatenate([step.infos["agent"] for step in first])
    assert len(np.unique(starts, axis=0)) == 4


@pytest.mark.parametrize("name", NAMES)
def test_saved_environments_go_on_as_they_would_have(name):
    env = make_env(name, num_envs=3, seed=2, env_options=ALL)
    env.reset()
    last = [env.step(actions(3, t)) for t in range(3)][-1]
    arrays, meta = env.state_dict()
    other = make_env(name, num_envs=3, env_options=ALL)
    assert equal(other.load_state_dict(arrays, meta), last)
    assert all(equal(env.step(actions(3, t)), other.step(actions(3, t))) for t in range(3, 12))
    with pytest.raises(ConfigurationError, match="has 3 environments, this vector 2"):
        make_env(name, num_envs=2, env_options=ALL).load_state_dict(arrays, meta)
    with pytest.raises(CheckpointError, match="'goals' is missing or damaged"):
        other.load_state_dict({k: v for k, v in arrays.items() if k != "goals"}, meta)


def test_observations_are_those_asked_for_and_the_true_state_is_told_beside():
    shown = {
        obs: make_env("study:two-room", env_options={"obs": obs, "size": 16}).obs_spec
        for obs in ("image", "state", "both")
    }
    assert {obs: list(spec) for obs, spec in shown.items()} == {
        "image": ["image"], "state": ["state"], "both": ["image", "state"]
    }  # fmt: skip
    assert shown["both"]["image"].shape == (3, 16, 16) and shown["both"]["state"].shape == (4,)
    env = make_env("study:two-room", num_envs=2, env_options={"door": "random", "vary": ["speed"]})
    row = env.reset(0)
    assert {name: value.shape for name, value in row.infos.items()} == {
        "agent": (2, 2), "wall": (2, 1), "door": (2, 1), "speed": (2, 1)
    }  # fmt: skip
    assert np.allclose(np.concatenate([row.infos[n] for n in ("agent", "wall", "door")], 1), env.states())


def test_the_picture_has_the_size_that_is_asked_for():
    assert make_env("study:point-goal").obs_spec["image"].shape == (3, 32, 32)
    assert make_env("study:two-room", image_size=48).obs_spec["image"].shape == (3, 48, 48)
    assert list(make_env("study:two-room", render_size=48).obs_spec) == ["image"]
    with pytest.raises(ConfigurationError, match="given twice, 48 and 32"):
        make_env("study:two-room", image_size=48, env_options={"size": 32})
    with pytest.raises(ConfigurationError, match="obs for 'state'"):
        make_env("study:two-room", render_size=48, env_options={"obs": "state"})


def test_stacked_frames_keep_the_infos():
    env = make_env("study:point-goal", num_envs=2, frame_stack=3)
    assert list(env.info_spec) == ["agent"] and env.obs_spec["image"].shape == (9, 32, 32)
    assert env.reset().infos["agent"].shape == env.step(actions(2)).infos["agent"].shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("study:tworoom", {}, "unknown environment 'study:tworoom'.*Did you mean 'study:two-room'"),
        ("study:two-room", {"dor": "random"}, "study:two-room has no option 'dor'.*Did you mean 'door'"),
        ("study:point-goal", {"door": "random"}, "study:point-goal has no option 'door'"),
        ("study:two-room", {"vary": "[sped]"}, "no factor 'sped' to vary.*Did you mean 'speed'"),
        ("study:two-room", {"vary": 3}, "vary is 3, expected names of factors"),
        ("study:two-room", {"speed": 3}, "speed is 3, expected a number from 0.015 to 0.05"),
        ("study:two-room", {"speed": "fast"}, "speed is 'fast', expected a number"),
        ("study:two-room", {"speed": float("nan")}, "speed is nan, expected a number"),
        ("study:two-room", {"speed": 0.03, "vary": ["speed"]}, "speed is given as 0.03 and to vary"),
        ("study:two-room", {"agent_color": (1, 2)}, "agent_color is .1, 2., expected three numbers"),
        (
            "study:two-room",
            {"obs": "imag"},
            "obs is 'imag', expected one of .*Did you mean 'image'",
        ),
        ("study:two-room", {"size": 8}, "size is 8, expected a whole number"),
        ("study:point-goal", {"goal": "other_room"}, "study:point-goal: goal is 'other_room', expected one of"),
        ("study:point-goal", {"radius": 2.0}, "in 500 draws no goal .place. was found.*give a smaller radius"),
    ],
)
def test_a_mistake_is_refused_by_name(name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        make_env(name, env_options=options).reset()


def test_a_name_without_its_prefix_is_told_with_it():
    pytest.importorskip("gymnasium")
    with pytest.raises(ConfigurationError, match="write 'study:two-room'"):
        make_env("two_room")


def test_wrong_actions_and_seeds_are_refused():
    env = make_env("study:point-goal", num_envs=2)
    env.reset()
    with pytest.raises(ShapeMismatchError, match="wrong action"):
        env.step(np.zeros((1, 2)))
    with pytest.raises(ValidationError, match="finite numbers"):
        env.step(np.full((2, 2), np.nan))
    with pytest.raises(ConfigurationError, match="one for each of 2"):
        env.reset([1])


def test_gymnasium_is_not_needed(monkeypatch):
    monkeypatch.delitem(sys.modules, "worldflux.envs.study.gym_spaces", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "gymnasium"]:
        monkeypatch.setitem(sys.modules, name, None)
    env = make_env("study:two-room", num_envs=2, frame_stack=2)
    assert env.reset().obs["image"].shape == (2, 6, 64, 64) and env.single_observation_space is None
