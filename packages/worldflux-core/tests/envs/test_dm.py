"""Environments of the dm_env interface as rows, with a toy that has no more of dm_env than the adapter reads."""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind
from worldflux.envs import DmEnv, EnvironmentFailure, make_env


def array(*shape, dtype=float, **bounds):
    name = "BoundedArray" if bounds else "Array"
    return type(name, (SimpleNamespace,), {})(shape=shape, dtype=np.dtype(dtype), **bounds)


def discrete(number):
    return type("DiscreteArray", (SimpleNamespace,), {})(shape=(), dtype=np.dtype("int32"), num_values=number)


class TimeStep(SimpleNamespace):
    def last(self):
        return self.kind == "last"


class Walk:
    """Shows the time and a draw of the episode, pays 1, 10, 100, …; over after ``length`` steps."""

    def __init__(self, length=4, *, discount=1.0, action=None, image=False):
        self.length, self.discount, self.image = length, discount, image
        self.action = action or array(2, minimum=np.array([-1.0, 0.0]), maximum=np.array([1.0, 4.0]))
        self.task = SimpleNamespace(random=np.random.RandomState(0))
        self.taken = []

    def observation_spec(self):
        spec = OrderedDict(z_time=array(), a_draw=array(1, 2))
        return spec | {"eye": array(4, 5, 3, dtype=np.uint8)} if self.image else spec

    def action_spec(self):
        return self.action

    def observation(self):
        seen = OrderedDict(z_time=float(self.time), a_draw=self.draw)
        return seen | {"eye": np.full((4, 5, 3), self.time, np.uint8)} if self.image else seen

    def reset(self):
        self.time, self.draw = 0, self.task.random.uniform(size=(1, 2))
        return TimeStep(kind="first", reward=None, discount=None, observation=self.observation())

    def step(self, action):
        self.taken.append(action)
        self.time += 1
        over = self.time == self.length
        return TimeStep(
            kind="last" if over else "mid",
            reward=10.0 ** (self.time - 1),
            discount=self.discount if over else 1.0,
            observation=self.observation(),
        )


def rows(env, number):
    steps = [env.reset(seed=3)]
    steps += [env.step(np.zeros((env.num_envs, env.action_spec.dim), np.float32)) for _ in range(number - 1)]
    return steps


def test_vectors_become_one_in_the_order_of_the_spec():
    env = make_env(Walk)
    assert {name: spec.shape for name, spec in env.obs_spec.items()} == {"obs": (3,)}
    first, second = rows(env, 2)
    assert first.obs["obs"].dtype == np.float32
    assert first.obs["obs"][0, 0] == 0 and second.obs["obs"][0, 0] == 1  # z_time comes first, whatever its name
    assert np.array_equal(first.obs["obs"][:, 1:], second.obs["obs"][:, 1:])


def test_with_an_image_every_entry_keeps_its_name():
    env = make_env(lambda: Walk(image=True))
    assert {name: spec.shape for name, spec in env.obs_spec.items()} == {
        "z_time": (1,),
        "a_draw": (2,),
        "eye": (3, 4, 5),
    }
    assert env.obs_spec["eye"].kind is ModalityKind.IMAGE
    assert (rows(env, 3)[2].obs["eye"] == 2).all()


class Told(Walk):
    """Shows something beside its vectors."""

    def __init__(self, spec):
        super().__init__()
        self.extra = spec

    def observation_spec(self):
        return {**super().observation_spec(), "extra": self.extra}


@pytest.mark.parametrize("dtype", [object, "U8"])
def test_text_is_refused_by_name(dtype):
    with pytest.raises(ConfigurationError, match="observation 'extra' is Array of dtype"):
        make_env(lambda: Told(array(dtype=dtype)))


def test_an_entry_without_numbers_is_left_out():
    assert make_env(lambda: Told(array(0))).obs_spec["obs"].shape == make_env(Walk).obs_spec["obs"].shape


@pytest.mark.parametrize(("discount", "terminal"), [(0.0, True), (1.0, False), (0.5, False), (None, False)])
def test_only_a_last_discount_of_nothing_is_a_true_end(discount, terminal):
    steps = rows(make_env(lambda: Walk(2, discount=discount)), 4)
    assert [bool(step.is_last[0]) for step in steps] == [False, False, True, False]
    assert [bool(step.is_terminal[0]) for step in steps] == [False, False, terminal, False]
    assert [bool(step.is_first[0]) for step in steps] == [True, False, False, True]


def test_a_repeated_action_sums_its_rewards_and_stops_at_the_end_of_the_episode():
    made = []
    env = make_env(lambda: DmEnv(made.append(Walk(5)) or made[-1], action_repeat=2))
    steps = rows(env, 5)
    assert [float(step.reward[0]) for step in steps] == [0, 11, 1100, 10000, 0]
    assert [bool(step.is_last[0]) for step in steps] == [False, False, False, True, False]
    assert len(made[0].taken) == 5


def test_actions_are_scaled_to_the_bounds_of_the_spec():
    walk = Walk()
    env = make_env(walk)
    env.reset()
    env.step(np.array([[0.5, -1]], np.float32))
    assert walk.taken[0].dtype == np.float64 and walk.taken[0].tolist() == [0.5, 0]


@pytest.mark.parametrize(
    ("spec", "flat", "action"),
    [
        (discrete(3), [0, 0, 1], 2),
        (array(dtype=int, minimum=4, maximum=5), [0, 1], 5),
        (array(2, dtype=int, minimum=[1, 0], maximum=[2, 2]), [0, 1, 1, 0, 0], [2, 0]),
        ({"b": discrete(2), "a": array(1, minimum=0, maximum=2)}, [0, 0, 1], {"b": 1, "a": [1]}),
        ([discrete(2), discrete(2)], [1, 0, 0, 1], [0, 1]),
    ],
)
def test_an_action_arrives_as_its_spec_says(spec, flat, action):
    walk = Walk(action=spec)
    env = make_env(walk)
    env.reset()
    env.step(np.array([flat], np.float32))

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list) else value.tolist()

    assert plain(walk.taken[0]) == action


@pytest.mark.parametrize("spec", [array(2), array(1, minimum=-1e10, maximum=1e10)])  # 1e10: MuJoCo's word for no limit
def test_an_action_without_bounds_is_refused(spec):
    with pytest.raises(ConfigurationError, match="no finite bounds"):
        make_env(Walk(action=spec))


def test_numbers_without_end_are_no_action():
    with pytest.raises(ConfigurationError, match="with a minimum and a maximum"):
        make_env(Walk(action=array(2, dtype=int)))


def test_an_episode_is_a_function_of_its_seed_and_later_ones_differ():
    draws = [step.obs["obs"][:, 1:] for step in rows(make_env(Walk, num_envs=2), 6)]
    again = [step.obs["obs"][:, 1:] for step in rows(make_env(Walk, num_envs=2), 6)]
    assert np.array_equal(draws, again)
    assert not np.array_equal(draws[0][0], draws[0][1]) and not np.array_equal(draws[0], draws[5])


class Own(Walk):
    def __init__(self):
        super().__init__()
        self.random, self.task = self.task.random, None

    def reset(self):
        self.task = SimpleNamespace(random=self.random)
        first = super().reset()
        self.task = None
        return first


class SeedMethod(Own):
    def seed(self, seed):
        self.random = np.random.RandomState(seed)


class Composer(Own):
    @property
    def random_state(self):
        return self.random


class NewGenerator(Walk):
    def __init__(self):
        super().__init__()
        self.task.random = np.random.default_rng()


@pytest.mark.parametrize("kind", [SeedMethod, Composer, NewGenerator])
def test_a_seed_reaches_the_environment_wherever_it_keeps_its_randomness(kind):
    first, again = (make_env(kind).reset(seed=1).obs["obs"] for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, make_env(kind).reset(seed=2).obs["obs"])


def test_an_environment_that_cannot_be_seeded_says_so_once(caplog):
    env = make_env(Own)
    with caplog.at_level(logging.WARNING, "worldflux"):
        env.reset()
        env.reset()
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "Own has neither seed(int) nor task.random nor random_state"
    ]


def test_an_open_episode_is_played_again_from_the_saved_state():
    env = make_env(Walk, num_envs=2, seed=1)
    for _ in range(8):
        step = env.step(np.zeros((2, 2), np.float32))
    again = make_env(Walk, num_envs=2).load_state_dict(*env.state_dict())
    assert np.array_equal(step.obs["obs"], again.obs["obs"]) and np.array_equal(step.is_last, again.is_last)


def test_one_object_is_one_environment():
    with pytest.raises(ConfigurationError, match="pass a factory"):
        make_env(Walk(), num_envs=2)


@pytest.mark.parametrize("repeat", [0, -1, 1.5, True, "2"])
def test_an_action_repeat_that_makes_no_sense_is_named(repeat):
    with pytest.raises(ConfigurationError, match="action_repeat must be a whole number"):
        DmEnv(Walk(), action_repeat=repeat)


class Seen(Walk):
    """Its picture is as bright as the episode is old."""

    def __init__(self):
        super().__init__()
        self.physics = SimpleNamespace(render=self.picture)

    def picture(self, height, width, camera_id):
        if self.time > 2:
            raise RuntimeError("no OpenGL platform")
        return np.full((height, width, 3), 10 * self.time + camera_id, np.uint8)


def test_pixels_are_rendered_by_the_physics():
    steps = rows(make_env(Seen, render_size=6), 3)
    assert [step.obs["obs"].shape for step in steps] == [(1, 3, 6, 6)] * 3
    assert [int(step.obs["obs"].max()) for step in steps] == [0, 10, 20]


def test_pixels_may_come_from_a_function():
    def make():
        walk = Walk()
        return DmEnv(walk, render=lambda: np.full((9, 6, 3), walk.time, np.uint8))

    (step,) = rows(make_env(make, render_size=3), 1)
    assert step.obs["obs"].shape == (1, 3, 3, 3)


def test_pixels_need_something_that_renders():
    with pytest.raises(ConfigurationError, match="one with a physics"):
        make_env(Walk, render_size=6)


def test_where_nothing_can_render_the_message_says_what_to_set():
    with pytest.raises(EnvironmentFailure, match="no OpenGL platform.*MUJOCO_GL=egl"):
        rows(make_env(Seen, render_size=6), 4)


@pytest.fixture
def suite(monkeypatch):
    """Stands in for dm_control's suite, and keeps what was asked of it."""
    package, module = ModuleType("dm_control"), ModuleType("dm_control.suite")
    module.ALL_TASKS = (
        ("ball_in_cup", "catch"),
        ("lqr", "lqr_2_1"),
        ("point_mass", "easy"),
        ("walker", "run"),
        ("walker", "walk"),
    )
    module.asked = []

    def load(domain, task, task_kwargs):
        module.asked.append((domain, task))
        return Walk(8, action=array(2, minimum=-1e10, maximum=1e10) if domain == "lqr" else None)

    module.load = load
    monkeypatch.setitem(sys.modules, "dm_control", package)
    monkeypatch.setitem(sys.modules, "dm_control.suite", module)
    return module


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("dmc:walker-walk", ("walker", "walk")),
        ("DMC:Walker_Walk", ("walker", "walk")),
        ("dmc:cup-catch", ("ball_in_cup", "catch")),
        ("dmc:ball_in_cup-catch", ("ball_in_cup", "catch")),
        ("dmc:pointmass-easy", ("point_mass", "easy")),
        ("dmc:point-mass-easy", ("point_mass", "easy")),
    ],
)
def test_a_task_goes_by_the_names_in_use(suite, name, task):
    rewards = [float(step.reward[0]) for step in rows(make_env(name), 3)]
    assert suite.asked == [task] and rewards == [0, 11, 1100]  # each action twice


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dmc:walker-wlak", "Did you mean 'dmc:walker-walk'"),
        ("dmc:cheetah-jmp", "Did you mean 'dmc:cheetah-jump'"),
        ("dmc:cup_spinn", "Did you mean 'dmc:cup-spin'"),
        (
            "dmc:walker",
            "There are dmc:walker-run, dmc:walker-run-backwards, dmc:walker-walk, dmc:walker-walk-backwards",
        ),
        ("cup-catch", "write 'dmc:cup-catch'"),
        ("dmc-cup-catch", "write 'dmc:cup-catch'"),
        ("dm_control/walker-walk", "write 'dmc:walker-walk'"),
    ],
)
def test_a_name_that_is_near_a_task_is_told_the_right_one(suite, name, said):
    with pytest.raises(ConfigurationError, match=f"unknown .*{name}.*{said}"):
        make_env(name)
    assert suite.asked == []


def test_a_task_whose_actions_have_no_bounds_is_refused_by_name(suite):
    with pytest.raises(
        ConfigurationError, match=r"dmc:lqr-lqr-2-1: .* no finite bounds.*BoundedArray\(shape, float, -1, 1\)"
    ):
        make_env("dmc:lqr-lqr-2-1")


def test_a_task_refuses_an_option_by_name(suite):
    with pytest.raises(ConfigurationError, match="dmc:walker-walk: action_repeat must be a whole number"):
        make_env("dmc:walker-walk", env_options={"action_repeat": 0})
