"""Rows of vector environments: the arrival convention, whoever resets."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from worldflux.core.errors import ConfigurationError, ShapeMismatchError, ValidationError
from worldflux.envs import EnvironmentFailure, VectorEnv, make_env


def one_hot(*indices: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(indices)]


def rows_of(env, num: int, actions=(1, 2)):
    """The first ``num`` rows of every environment as readable tuples, one list an environment."""
    out = [[] for _ in range(env.num_envs)]
    step = env.reset(seed=0)
    for _ in range(num):
        for i in range(env.num_envs):
            flags = "".join(
                letter for letter, flag in zip("FLT", (step.is_first, step.is_last, step.is_terminal)) if flag[i]
            )
            out[i].append((int(step.obs["obs"][i].argmax()), float(step.reward[i]), flags))
        step = env.step(one_hot(*actions))
    return out


EXPECTED = [  # action 1 in environment 0, which terminates after 3; action 2 in environment 1, which is cut after 2
    [(0, 0, "F"), (1, 11, ""), (2, 12, ""), (3, 13, "LT"), (0, 0, "F"), (1, 11, ""), (2, 12, ""), (3, 13, "LT")],
    [(0, 0, "F"), (1, 21, ""), (2, 22, "L"), (0, 0, "F"), (1, 21, ""), (2, 22, "L"), (0, 0, "F"), (1, 21, "")],
]


def test_a_row_carries_the_reward_received_on_arriving_and_each_episode_has_one_first_row(counter):
    made = iter([counter(3), counter(2, terminates=False)])
    assert rows_of(make_env(lambda: next(made), num_envs=2), 8) == EXPECTED


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_autoreset_mode_of_a_foreign_vector_gives_the_same_rows(counter, mode):
    foreign = gymnasium.vector.SyncVectorEnv(
        [lambda: counter(3), lambda: counter(2, terminates=False)], autoreset_mode=mode
    )
    env = make_env(foreign)
    assert isinstance(env, VectorEnv)
    assert rows_of(env, 8) == EXPECTED


def test_a_foreign_vector_without_a_known_autoreset_mode_is_refused(counter):
    foreign = gymnasium.vector.SyncVectorEnv([counter])
    foreign.metadata = {"autoreset_mode": "sometimes"}
    with pytest.raises(ConfigurationError, match="autoreset mode 'sometimes'.*NEXT_STEP"):
        make_env(foreign)


def test_a_foreign_vector_that_resets_more_than_the_mask_says_is_refused(counter):
    class ResetsAll(gymnasium.vector.SyncVectorEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)

    env = make_env(ResetsAll([lambda: counter(3), lambda: counter(2)], autoreset_mode=AutoresetMode.DISABLED))
    env.reset(seed=0)
    with pytest.raises(ConfigurationError, match="reset_mask"):
        [env.step(one_hot(1, 1)) for _ in range(4)]


def test_a_failing_environment_is_named_and_a_reset_goes_on(counter):
    made = iter([counter(5), counter(5, fails_at=2)])
    env = make_env(lambda: next(made), num_envs=2)
    env.reset()
    env.step(one_hot(0, 0))
    with pytest.raises(
        EnvironmentFailure, match="environment 1 raised in step 2 .*RuntimeError: the gripper"
    ) as caught:
        env.step(one_hot(0, 0))
    assert caught.value.env_index == 1
    assert env.step(one_hot(0, 0)).is_first.all()


@pytest.mark.parametrize("reward", [None, np.zeros(2), "much"])
def test_a_reward_that_is_no_number_is_named_with_its_environment(counter, reward):
    class Odd(counter):
        def step(self, action):
            obs, _, *rest = super().step(action)
            return obs, reward, *rest

    env = make_env(Odd)
    env.reset()
    with pytest.raises(EnvironmentFailure, match="environment 0 gave the reward .* in step 1 .* expected one number"):
        env.step(one_hot(0))


def test_an_array_of_one_number_is_a_reward(counter):
    class Boxed(counter):
        def step(self, action):
            obs, reward, *rest = super().step(action)
            return obs, np.array([reward]), *rest

    env = make_env(Boxed)
    env.reset()
    assert env.step(one_hot(2)).reward.tolist() == [21.0]


@pytest.mark.parametrize("foreign", [False, True])
def test_after_a_failure_a_reset_begins_other_episodes(foreign):
    class Stuck(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float64)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.random(1), {}

        def step(self, action):
            raise RuntimeError("stuck")

    env = make_env(gymnasium.vector.SyncVectorEnv([Stuck]) if foreign else Stuck)
    first = env.reset().obs["obs"]
    with pytest.raises(EnvironmentFailure):
        env.step(np.eye(2, dtype=np.float32)[:1])
    assert not np.array_equal(env.reset().obs["obs"], first)


def test_equal_seeds_give_equal_episodes_and_environments_differ():
    def run(seed):
        env = make_env("CartPole-v1", num_envs=2, seed=seed)
        steps = [env.reset()] + [env.step(np.eye(2, dtype=np.float32)) for _ in range(30)]
        return np.stack([step.obs["obs"] for step in steps])

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    assert not np.array_equal(run(1)[0, 0], run(1)[0, 1])


def test_later_episodes_do_not_repeat_the_first():
    env = make_env("CartPole-v1")
    starts = [env.reset().obs["obs"] for _ in range(3)]
    assert not np.array_equal(starts[0], starts[1]) and not np.array_equal(starts[1], starts[2])
    assert np.array_equal(env.reset(seed=0).obs["obs"], starts[0])


def test_open_episodes_are_played_again_from_the_saved_state():
    env = make_env("CartPole-v1", num_envs=2, seed=3)
    env.reset()
    for _ in range(25):  # both environments are in later episodes by now
        step = env.step(np.array([[1, 0], [1, 0]], np.float32))
    arrays, meta = env.state_dict()
    other = make_env("CartPole-v1", num_envs=2)
    again = other.load_state_dict(arrays, meta)
    for _ in range(20):
        assert np.array_equal(step.obs["obs"], again.obs["obs"])
        assert np.array_equal(step.is_last, again.is_last) and np.array_equal(step.is_first, again.is_first)
        step, again = (e.step(np.array([[0, 1], [1, 0]], np.float32)) for e in (env, other))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((2, 4), np.float32), "expected .2, 3.*got .2, 4"),
        (np.zeros(2, np.int64), "one-hot here, not class indices"),
        (np.full((2, 3), np.nan), "finite"),
        (np.full((2, 3), "left"), "numbers"),
    ],
)
def test_wrong_actions_are_refused_at_the_door(counter, actions, message):
    env = make_env(counter, num_envs=2)
    env.reset()
    with pytest.raises((ShapeMismatchError, ValidationError), match=message):
        env.step(actions)


def test_environments_with_different_spaces_are_refused(counter):
    other = counter()
    other.action_space = gymnasium.spaces.Discrete(5)
    made = iter([counter(), other])
    with pytest.raises(ConfigurationError, match="environment 1 has spaces"):
        make_env(lambda: next(made), num_envs=2)


class Composite(gymnasium.Env):
    """Pays 100 a + 10 b0 + b1 + c for its nested action; shows the same numbers under their names."""

    observation_space = gymnasium.spaces.Dict(
        {
            "last": gymnasium.spaces.MultiDiscrete([3, 2]),
            "more": gymnasium.spaces.Dict({"force": gymnasium.spaces.Box(-9, 9, (1,))}),
        }
    )
    action_space = gymnasium.spaces.Dict(
        {
            "a": gymnasium.spaces.Discrete(4),
            "b": gymnasium.spaces.MultiDiscrete([3, 2]),
            "c": gymnasium.spaces.Tuple((gymnasium.spaces.Box(-2, 2, (1,)),)),
        }
    )

    def seen(self, pair, force):
        return {"last": np.array(pair), "more": {"force": np.array([force], np.float32)}}

    def reset(self, *, seed=None, options=None):
        return self.seen([0, 0], 0), {}

    def step(self, action):
        assert self.action_space.contains(action)
        pair, force = action["b"], float(action["c"][0][0])
        return self.seen(pair, force), 100 * action["a"] + 10 * pair[0] + pair[1] + force, False, False, {}


@pytest.mark.parametrize("foreign", [False, True])
def test_composite_actions_and_observations_keep_their_meaning(foreign):
    vector = gymnasium.vector.SyncVectorEnv([Composite] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    env = make_env(vector) if foreign else make_env(Composite, num_envs=2)
    assert [(part.name, part.dim) for part in env.action_spec.parts] == [("a", 4), ("b/0", 3), ("b/1", 2), ("c/0", 1)]
    assert {name: spec.shape for name, spec in env.obs_spec.items()} == {"last": (5,), "more/force": (1,)}
    env.reset(seed=0)
    step = env.step(np.array([[0, 0, 0, 1, 0, 0, 1, 0, 1, 0.5], [0, 1, 0, 0, 1, 0, 0, 1, 0, -7]], np.float32))
    assert step.reward.tolist() == [322, 98]
    assert step.obs["last"].tolist() == [[0, 0, 1, 0, 1], [1, 0, 0, 1, 0]]
    assert step.obs["more/force"].tolist() == [[1], [-2]]


class Lock(gymnasium.Env):
    """Open at the drawn code in MultiDiscrete([3, 4]); shows the last try, pays its force, gives up after five."""

    observation_space = gymnasium.spaces.Dict(
        {"tried": gymnasium.spaces.MultiDiscrete([3, 4]), "code": gymnasium.spaces.MultiDiscrete([3, 4])}
    )
    action_space = gymnasium.spaces.Dict(
        {"dials": gymnasium.spaces.MultiDiscrete([3, 4]), "force": gymnasium.spaces.Box(0, 8, (1,))}
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.code, self.tries = self.np_random.integers([3, 4]), 0
        return {"tried": np.zeros(2, np.int64), "code": self.code}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.tries += 1
        seen = {"tried": action["dials"], "code": self.code}
        opened = bool((action["dials"] == self.code).all())
        return seen, float(action["force"][0]), opened, self.tries == 5, {}


def try_all(env, num: int):
    """The rows of ``num`` tries, which go through the twelve codes in turn with growing force."""
    steps = [env.reset(seed=2)]
    for i in range(num):
        dials = np.concatenate([np.eye(3)[i % 3], np.eye(4)[i % 4], [i / num * 2 - 1]])
        steps.append(env.step(np.tile(dials.astype(np.float32), (env.num_envs, 1))))
    return steps


def same(one, two):
    return all(np.array_equal(one.obs[name], two.obs[name]) for name in one.obs) and all(
        np.array_equal(getattr(one, name), getattr(two, name))
        for name in ("reward", "is_first", "is_last", "is_terminal")
    )


@pytest.mark.parametrize("foreign", [False, True])
def test_episodes_of_composite_spaces_end_in_truth_or_by_the_clock_each_in_its_own_environment(foreign):
    vector = gymnasium.vector.SyncVectorEnv([Lock] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
    env = make_env(vector) if foreign else make_env(Lock, num_envs=3)
    steps = try_all(env, 60)
    age, ends = np.zeros(3, int), []
    for step in steps:
        age = np.where(step.is_first, 0, age + 1)
        opened = (step.obs["tried"] == step.obs["code"]).all(1) & ~step.is_first
        assert step.is_terminal.tolist() == opened.tolist()
        assert step.is_last.tolist() == (opened | (age == 5)).tolist()
        assert (step.reward[step.is_first] == 0).all()
        ends += [bool(terminal) for terminal, last in zip(step.is_terminal, step.is_last) if last]
    assert any(ends) and not all(ends)


def test_episodes_of_composite_spaces_follow_the_seed_and_differ():
    one, two = (try_all(make_env(Lock, num_envs=2), 60) for _ in "ab")
    assert all(same(a, b) for a, b in zip(one, two))
    codes = [step.obs["code"][i].tolist() for step in one for i in np.flatnonzero(step.is_first)]
    assert len({str(code) for code in codes}) > 3


@pytest.mark.parametrize("tries", [3, 23])
def test_an_open_episode_of_composite_spaces_is_played_again(tries):
    env = make_env(Lock, num_envs=2)
    step = try_all(env, tries)[-1]
    other = make_env(Lock, num_envs=2)
    assert same(step, other.load_state_dict(*env.state_dict()))
    flat = np.tile(np.eye(8, dtype=np.float32)[1] + np.eye(8, dtype=np.float32)[4], (2, 1))
    for _ in range(12):
        assert same(env.step(flat), other.step(flat))
