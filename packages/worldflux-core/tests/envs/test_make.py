"""The door for environments."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.envs import RandomPolicy, make_env
from worldflux.envs.pixels import resize


@pytest.mark.parametrize("given", ["CartPole-v1", "gym:CartPole-v1", lambda: gymnasium.make("CartPole-v1")])
def test_an_id_and_a_factory_make_the_same_environment(given):
    env = make_env(given, num_envs=2, seed=5)
    assert env.num_envs == 2 and env.obs_spec["obs"].shape == (4,) and env.action_spec.num_actions == 2
    assert np.array_equal(env.reset().obs["obs"], make_env("CartPole-v1", num_envs=2, seed=5).reset().obs["obs"])


def test_one_environment_object_is_taken_once(counter):
    assert make_env(counter()).num_envs == 1
    with pytest.raises(ConfigurationError, match="pass a factory"):
        make_env(counter(), num_envs=2)


def test_a_vector_of_ours_is_taken_as_it_is(counter):
    env = make_env(counter, num_envs=2)
    assert make_env(env) is env
    with pytest.raises(ConfigurationError, match="num_envs is 3"):
        make_env(env, num_envs=3)
    with pytest.raises(ConfigurationError, match="already built"):
        make_env(env, render_size=8)


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ConfigurationError, match="unknown environment 'CartPol-v1'.*'CartPole-v1'"):
        make_env("CartPol-v1")


def test_an_unknown_option_of_an_environment_is_named():
    with pytest.raises(ConfigurationError, match="gravitation"):
        make_env("Pendulum-v1", env_options={"gravitation": 1})


def test_whatever_a_constructor_raises_names_the_environment():
    with pytest.raises(ConfigurationError, match="'FrozenLake-v1' could not be made: KeyError: '5x5'"):
        make_env("FrozenLake-v1", env_options={"map_name": "5x5"})


def test_an_environment_without_spaces_is_refused(counter):
    class Vague(counter):
        def __init__(self):
            pass

    with pytest.raises(ConfigurationError, match="Vague has no observation_space"):
        make_env(Vague)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": "2"}, "num_envs must be a whole number of at least 1, got '2'"),
        ({"num_envs": 0}, "num_envs must be a whole number of at least 1, got 0"),
        ({"render_size": 64.0}, "render_size must be a whole number of at least 1, got 64.0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        make_env("CartPole-v1", **options)


@pytest.mark.parametrize("given", [7, object(), lambda: "no environment"])
def test_what_is_no_environment_is_refused(given):
    with pytest.raises(ConfigurationError, match=r"expected a gymnasium\.Env|env must be"):
        make_env(given)


def test_without_gymnasium_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigurationError, match=r'pip install "worldflux-core\[env\]"'):
        make_env("CartPole-v1")


def test_pixels_are_rendered_and_resized():
    pytest.importorskip("pygame")
    env = make_env("CartPole-v1", render_size=32)
    image = env.reset(seed=0).obs["obs"]
    assert env.obs_spec["obs"].shape == (3, 32, 32) and image.shape == (1, 3, 32, 32) and image.dtype == np.uint8
    for _ in range(10):
        moved = env.step(np.array([[1, 0]], np.float32)).obs["obs"]
    assert image.std() > 0 and not np.array_equal(image, moved)
    env.close()


def test_pixels_need_an_environment_that_renders(counter):
    with pytest.raises(ConfigurationError, match="rgb_array"):
        make_env(counter, render_size=32)


def test_resizing_takes_the_mean_of_each_area():
    image = np.zeros((3, 4, 4), np.uint8)
    image[:, :2, :2] = 200
    image[1, 2:, 2:] = [[0, 100], [100, 0]]
    small = resize(image, 2)
    assert small[:, 0, 0].tolist() == [200, 200, 200] and small[:, 1, 1].tolist() == [0, 50, 0] and small[0, 0, 1] == 0


def test_random_actions_cover_the_space_and_follow_the_seed():
    from gymnasium.spaces import Box, Dict, Discrete

    from worldflux.envs.spaces import ActionAdapter

    spec = ActionAdapter(Dict({"a": Discrete(3), "b": Box(-1, 1, (2,))})).spec

    def draw(policy):
        actions, _ = policy({}, policy.initial(500), is_first=torch.zeros(500, dtype=torch.bool), explore=True)
        return actions.numpy()

    actions = draw(RandomPolicy(spec, seed=1))
    assert actions.shape == (500, 5) and np.array_equal(actions[:, :3].sum(1), np.ones(500))
    assert actions[:, :3].mean(0) == pytest.approx([1 / 3] * 3, abs=0.1)
    assert actions[:, 3:].min() < -0.9 and actions[:, 3:].max() > 0.9
    policy = RandomPolicy(spec, seed=1)
    assert np.array_equal(draw(policy), actions)
    state = policy.rng_state()
    after = draw(policy)
    policy.set_rng_state(state)
    assert np.array_equal(draw(policy), after)


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        (
            "HalfCheetah-v5",
            ModuleNotFoundError("No module named 'imageio'"),
            "'imageio': pip install .gymnasium.mujoco",
        ),
        (
            "CartPole-v1",
            gymnasium.error.DependencyNotInstalled("pygame is not installed"),
            "pip install .worldflux-core.env",
        ),
        (
            "LunarLander-v3",
            gymnasium.error.DependencyNotInstalled("pip install swig"),
            "pip install swig$",
        ),  # said already
    ],
)
def test_what_an_environment_or_its_renderer_lacks_is_named_with_the_line_that_brings_it(
    monkeypatch, name, error, said
):
    def lacking(*args, **options):
        raise error

    monkeypatch.setattr(gymnasium, "make", lacking)
    with pytest.raises(ConfigurationError, match=f"environment '{name}' needs something that is not installed.*{said}"):
        make_env(name)
