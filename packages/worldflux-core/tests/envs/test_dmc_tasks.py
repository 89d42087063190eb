"""The tasks TD-MPC2 adds to dm_control's: what each pays where, how it begins and how large it is."""

from __future__ import annotations

import os
import sys
from math import pi

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.envs import make_env
from worldflux.envs.suite import ADDED

os.environ.setdefault("MUJOCO_GL", "egl")  # read when dm_control is first imported
pytest.importorskip("dm_control.suite")

from worldflux.envs.dmc_tasks import TASKS


def paid(name, *, qpos=(), qvel=(), target=None):
    """The reward at a state: joints by name, everything else at rest where the model has it."""
    env = TASKS[name](0)
    env.reset()
    physics = env.physics
    physics.reset()
    for values, state in ((qpos, physics.named.data.qpos), (qvel, physics.named.data.qvel)):
        for joint, value in dict(values).items():
            state[joint] = value
    if target is not None:
        physics.named.model.geom_pos["target", ["x", "y"]] = target
    physics.forward()
    return float(env.task.get_reward(physics)), physics


def bell(height):
    """A tenth of the reward where half the height wanted is missing."""
    return 0.1 ** ((max(0.0, 1.2 - height) / 0.6) ** 2)


def test_every_name_has_its_task():
    assert tuple(TASKS) == ADDED


# Sizes as the published checkpoints have them.
SIZES = {"walker": (24, 6), "cheetah": (17, 6), "hopper": (15, 4), "reacher": (8, 3), "cup": (8, 2), "pendulum": (3, 1)}


@pytest.mark.parametrize("name", ADDED)
def test_sizes_are_those_of_the_published_checkpoints(name):
    env = make_env(f"dmc:{name}")
    obs, action = SIZES[name.split("-")[0]]
    assert env.obs_spec["obs"].shape == (obs,)
    assert (env.action_spec.kind, env.action_spec.dim) == ("continuous", action)


@pytest.mark.parametrize("name", ADDED)
def test_an_episode_is_500_decisions_and_a_function_of_its_seed(name):
    env, again = (make_env(f"dmc:{name}") for _ in "ab")
    rng = np.random.default_rng(0)
    step, other = env.reset(seed=3), again.reset(seed=3)
    for i in range(500):
        assert not step.is_last[0]
        action = rng.uniform(-1, 1, (1, env.action_spec.dim)).astype(np.float32)
        step = env.step(action)
        assert 0 <= float(step.reward[0]) <= 2  # of two control steps
        if i < 50:
            other = again.step(action)
            assert np.array_equal(step.obs["obs"], other.obs["obs"]) and step.reward == other.reward
    assert step.is_last[0] and not step.is_terminal[0]
    assert not np.array_equal(env.step(action).obs["obs"], again.reset(seed=3).obs["obs"])


def test_an_action_is_repeated_and_its_rewards_are_summed():
    once, twice = (make_env("dmc:pendulum-spin", env_options={"action_repeat": n}) for n in (1, 2))
    once.reset(seed=0), twice.reset(seed=0)
    push = np.ones((1, 1), np.float32)
    sums = [float(once.step(push).reward[0] + once.step(push).reward[0]) for _ in range(20)]
    assert sums == pytest.approx([float(twice.step(push).reward[0]) for _ in range(20)], abs=1e-6)
    assert sums[-1] > 0


@pytest.mark.parametrize(("name", "wanted"), [("walker-walk-backwards", 1), ("walker-run-backwards", 8)])
def test_a_walker_is_paid_for_going_backwards_upright(name, wanted):
    def at(speed, *, lower=0.0, tilt=0.0):
        return paid(name, qpos={"rootz": -lower, "rooty": tilt}, qvel={"rootx": speed})[0]

    assert at(-wanted) == at(-2 * wanted) == pytest.approx(1)
    assert at(-wanted / 2) == pytest.approx((5 * 0.5 + 1) / 6)
    assert at(0) == at(wanted) == pytest.approx(1 / 6)
    assert at(-wanted, tilt=pi) == pytest.approx(3 / 4)  # upside down, but as high
    assert at(-wanted, lower=0.7) == pytest.approx((3 * 0.1 + 1) / 4)  # 0.6 m up


def test_a_cheetah_is_paid_for_running_backwards():
    speeds = {-10: 1, -8: 1, -4: 0.5, 0: 0, 8: 0}
    assert [paid("cheetah-run-backwards", qvel={"rootx": speed})[0] for speed in speeds] == pytest.approx(
        list(speeds.values())
    )


@pytest.mark.parametrize(("name", "lifted"), [("cheetah-run-front", "bfoot"), ("cheetah-run-back", "ffoot")])
def test_a_cheetah_on_one_foot_is_paid_for_the_other_foot_in_the_air(name, lifted):
    high = {"rootz": 3}
    assert paid(name, qpos=high, qvel={"rootx": 6})[0] == pytest.approx(1)
    assert paid(name, qpos=high, qvel={"rootx": 3})[0] == pytest.approx((5 * 0.5 + 1) / 6)
    assert paid(name, qpos=high, qvel={"rootx": -6})[0] == pytest.approx(1 / 6)
    for tilt in (-0.8, 0.8):
        reward, physics = paid(name, qpos={"rootz": 0.2, "rooty": tilt}, qvel={"rootx": 7})
        foot, torso = (float(physics.named.data.xpos[body, "z"]) for body in (lifted, "torso"))
        assert reward == pytest.approx((3 * bell(foot) + 2 * bell(torso)) / 5)


def test_a_jumping_cheetah_is_paid_for_height_in_place():
    high = {"rootz": 3}
    for speed, still in {0: 1, 0.5: 1, -0.75: 0.5, 2: 0}.items():
        assert paid("cheetah-jump", qpos=high, qvel={"rootx": speed})[0] == pytest.approx((5 + still) / 6)
    reward, physics = paid("cheetah-jump", qpos={"rootz": 0.3, "rooty": 0.5})
    torso, back, front = (float(physics.named.data.xpos[body, "z"]) for body in ("torso", "bfoot", "ffoot"))
    assert back != pytest.approx(front)
    assert reward == pytest.approx((5 * (bell((torso + back) / 2) + bell((torso + front) / 2)) / 2 + 1) / 6)


def test_a_hopper_is_paid_for_speed_backwards_while_it_stands():
    speeds = {-2: 1, -1: 1, -0.5: 0.5, 0: 0, 2: 0}
    assert [paid("hopper-hop-backwards", qvel={"rootx": speed})[0] for speed in speeds] == pytest.approx(
        list(speeds.values())
    )
    assert paid("hopper-hop-backwards", qpos={"rooty": pi}, qvel={"rootx": -2})[0] == 0


@pytest.mark.parametrize(("name", "radius"), [("reacher-three-easy", 0.05), ("reacher-three-hard", 0.015)])
def test_a_reacher_is_paid_while_its_finger_touches_the_target(name, radius):
    reach, finger = 3 * 0.09, 0.01
    for angles in ({}, {"elbow": 1.0, "wrist": -0.5}):
        turned = np.cumsum([0, angles.get("elbow", 0), angles.get("wrist", 0)])
        tip = 0.09 * np.array([np.cos(turned).sum(), np.sin(turned).sum()])
        assert paid(name, qpos=angles, target=tip)[0] == 1
        assert paid(name, qpos=angles, target=tip + np.array([radius + finger - 1e-4, 0]))[0] == 1
        assert paid(name, qpos=angles, target=tip + np.array([0, radius + finger + 1e-4]))[0] == 0
    assert paid(name, target=[reach, 0])[0] == 1  # stretched out
    assert paid(name, qpos={"shoulder": pi / 2}, target=[0, reach])[0] == 1


def test_a_spinning_cup_is_paid_for_distance_and_speed_of_the_ball_outside():
    def at(away, speed=0.0):
        return paid("cup-spin", qpos={"ball_z": 0.35 - away}, qvel={"ball_x": 0.6 * speed, "ball_z": -0.8 * speed})[0]

    assert at(0, 6) == 0  # in the cup
    assert at(0.5) == pytest.approx(1 / 3)
    assert at(0.25) == pytest.approx(0.5 / 3)
    assert at(0.5, 3) == pytest.approx(2 / 3)
    assert at(0.5, 6) == at(1, 12) == pytest.approx(1)


def test_a_spinning_cup_begins_with_the_ball_inside_in_nine_episodes_of_ten():
    env = TASKS["cup-spin"](0)
    inside = 0
    for _ in range(100):
        env.reset()
        inside += int(env.physics.in_target())
        assert env.physics.data.ncon == 0
    assert 80 <= inside <= 98


def test_a_pendulum_is_paid_for_turning_either_way():
    speeds = {0: 0, 4.5: 0.5, -4.5: 0.5, 9: 1, -20: 1}
    assert [paid("pendulum-spin", qvel={"hinge": speed})[0] for speed in speeds] == pytest.approx(list(speeds.values()))


@pytest.mark.parametrize(("name", "floor"), [("walker-run-backwards", "floor"), ("cheetah-jump", "ground")])
def test_the_floor_is_drawn_far_behind_the_start(name, floor):
    model = TASKS[name](0).physics.named.model
    assert model.geom_pos[floor, "x"] - model.geom_size[floor, 0] < -50


def test_the_tasks_are_not_imported_for_others(monkeypatch):
    monkeypatch.setitem(sys.modules, "worldflux.envs.dmc_tasks", None)
    make_env("dmc:cartpole-balance").close()
    with pytest.raises(ImportError):
        make_env("dmc:cheetah-jump")


@pytest.mark.parametrize("camera", ["x", 7, True])
def test_a_camera_that_a_task_lacks_is_refused_with_those_it_has(camera):
    with pytest.raises(ConfigurationError, match=r"camera_id is .*, but the cameras are \['fixed', 'lookatcart'\]"):
        make_env("dmc:cartpole-balance", render_size=32, env_options={"camera_id": camera})


def test_a_task_without_bounds_is_refused_and_bounds_lead_out():
    from dm_control import suite
    from dm_env.specs import BoundedArray

    with pytest.raises(ConfigurationError, match="dmc:lqr-lqr_2_1: .* has no finite bounds.*BoundedArray"):
        make_env("dmc:lqr-lqr_2_1")
    raw = suite.load("lqr", "lqr_2_1")
    raw.action_spec = lambda: BoundedArray((1,), float, -5, 5)
    env = make_env(raw)
    env.reset(seed=0)
    assert env.step(np.ones((1, 1), np.float32)).obs["obs"].shape == (1, 4)
