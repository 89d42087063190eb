"""dm_control's tasks and Atari's games: by name, with what they need or without it."""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.envs import make_env

if importlib.util.find_spec("dm_control"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # read when dm_control is first imported


@pytest.mark.parametrize(
    ("name", "modules", "extra"),
    [("dmc:cartpole-balance", ["dm_control", "dm_control.suite"], "dmc"), ("ALE/Pong-v5", ["ale_py"], "atari")],
)
def test_without_the_simulator_the_message_names_the_extra(monkeypatch, name, modules, extra):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf'pip install "worldflux-core\[{extra}\]"'):
        make_env(name)


def test_an_option_a_task_does_not_have_is_named_with_the_nearest():
    with pytest.raises(ConfigurationError, match="no option 'action_repeats'.*'action_repeat'"):
        make_env("dmc:cartpole-balance", env_options={"action_repeats": 4})


@pytest.fixture
def dm_control():
    return pytest.importorskip("dm_control.suite")


def run(env, actions):
    steps = [env.reset(seed=7)]
    for action in actions:
        steps.append(env.step(np.full((env.num_envs, env.action_spec.dim), action, np.float32)))
    env.close()
    return steps


# Sizes as the published checkpoints have them.
@pytest.mark.parametrize(
    ("name", "obs", "action"),
    [
        ("cartpole-balance", 5, 1),
        ("cup-catch", 8, 2),
        ("ball_in_cup-catch", 8, 2),
        ("finger-turn_easy", 12, 2),
        ("finger-turn-hard", 12, 2),
        ("walker-walk", 24, 6),
        ("acrobot-swingup", 6, 1),
        ("humanoid_CMU-run", 137, 56),
    ],
)
def test_tasks_have_their_names_and_sizes(dm_control, name, obs, action):
    env = make_env(f"dmc:{name}")
    assert env.obs_spec["obs"].shape == (obs,)
    assert (env.action_spec.kind, env.action_spec.dim) == ("continuous", action)


def test_an_episode_is_500_decisions_of_two_control_steps_and_is_cut(dm_control):
    steps = run(make_env("dmc:cartpole-balance"), np.zeros(501))
    last = [i for i, step in enumerate(steps) if step.is_last[0]]
    assert last == [500] and not steps[500].is_terminal[0] and steps[501].is_first[0]
    assert 1 < float(steps[1].reward[0]) <= 2  # two rewards of at most 1


def test_the_adapter_gives_what_dm_control_gives(dm_control):
    raw = dm_control.load("ball_in_cup", "catch")
    env = make_env("dmc:cup-catch", env_options={"action_repeat": 3})
    steps = run(env, np.linspace(-1, 1, 20))
    raw.task.random.seed(_seed_of_first_episode(7))
    now = raw.reset()
    for step, action in zip(steps, [None, *np.linspace(-1, 1, 20)]):
        if action is not None:
            paid = 0.0
            for _ in range(3):
                now = raw.step(np.full(2, np.float32(action), float))
                paid += now.reward
            assert float(step.reward[0]) == np.float32(paid)
        seen = np.concatenate([np.ravel(value) for value in now.observation.values()])
        assert np.array_equal(step.obs["obs"][0], seen.astype(np.float32))


def _seed_of_first_episode(seed):
    from worldflux.envs.vector import episode_seed

    return episode_seed(seed, 0, 0)


@pytest.mark.parametrize("name", ["cartpole-swingup", "finger-spin", "reacher-easy", "cheetah-run"])
def test_an_episode_is_a_function_of_its_seed(dm_control, name):
    actions = np.sin(np.arange(30))
    first, again = (np.stack([s.obs["obs"] for s in run(make_env(f"dmc:{name}", num_envs=2), actions)]) for _ in "ab")
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0, 0], first[0, 1])


def test_an_open_episode_is_played_again_bit_by_bit(dm_control):
    env = make_env("dmc:cheetah-run", seed=1)
    for action in np.sin(np.arange(540)):  # into the second episode
        step = env.step(np.full((1, 6), action, np.float32))
    again = make_env("dmc:cheetah-run").load_state_dict(*env.state_dict())
    assert np.array_equal(step.obs["obs"], again.obs["obs"])


def test_an_unknown_task_names_the_nearest(dm_control):
    with pytest.raises(ConfigurationError, match="unknown task 'dmc:cup-cach'.*'dmc:cup-catch'"):
        make_env("dmc:cup-cach")


@pytest.mark.parametrize("fast", [False, True])
def test_a_task_is_seen_in_pixels(dm_control, fast):
    try:
        env = make_env("dmc:cartpole-balance", render_size=32, env_options={"fast_render": fast})
        steps = run(env, np.ones(15))
    except Exception as error:
        if "MuJoCo cannot render here" not in str(error):
            raise
        pytest.skip(str(error))
    first, last = steps[0].obs["obs"], steps[-1].obs["obs"]
    assert first.shape == (1, 3, 32, 32) and first.dtype == np.uint8
    assert first.std() > 0 and not np.array_equal(first, last)


def test_atari_is_made_by_its_id():
    pytest.importorskip("ale_py")
    env = make_env("ALE/Pong-v5")
    assert env.obs_spec["obs"].shape == (3, 210, 160) and env.action_spec.num_actions == 6
    assert env.reset(seed=0).obs["obs"].std() > 0
    env.close()
