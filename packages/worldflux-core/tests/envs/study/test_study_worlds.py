"""The worlds themselves: nobody passes a wall, the oracle arrives by the shortest way, and every factor shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldflux.envs import make_env
from worldflux.envs.study import POLICIES, StudyPolicy
from worldflux.envs.study.block_oracle import BlockFrame
from worldflux.envs.study.draws import Draws

NAMES = ("study:point-goal", "study:two-room", "study:push-block")


def run(env, policy, steps: int, seed: int = 0):
    """Yield the states before and after every step."""
    actor, step = StudyPolicy(policy, env), env.reset(seed)
    carry = actor.initial(env.num_envs)
    for _ in range(steps):
        before = env.states()
        taken, carry = actor(step.obs, carry, is_first=torch.as_tensor(step.is_first), explore=False)
        step = env.step(taken.numpy())
        yield before, env.states()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("goal", ["place", "offset"])
def test_the_oracle_reaches_every_goal_in_time(name, goal):
    env = make_env(name, num_envs=64, env_options={"vary": "all", "obs": "state", "goal": goal})
    reached = np.zeros(64, bool)
    for _ in run(env, "oracle", env.max_episode_steps - 1):
        reached |= env.success()
        if reached.all():
            break
    assert reached.all()


def test_the_oracle_reaches_the_pose_from_wherever_chance_has_pushed_the_block():
    env = make_env("study:push-block", num_envs=48, env_options={"vary": "all", "obs": "state", "limit": 150})
    for _ in run(env, "persistent", 120):
        pass
    goals, reached = env.goal_states(), np.zeros(48, bool)
    starts = env.states()
    env.reset(0, starts=starts, goals=goals)
    while not reached.all():
        assert not env.step(env.oracle()).is_last.any()
        reached |= env.success()


def test_two_rooms_distance_is_what_the_oracle_walks_and_no_way_is_shorter():
    env = make_env("study:two-room", num_envs=64, env_options={"vary": "all", "obs": "state", "goal": "other_room"})
    env.reset(0)
    told, start, goal = env.distance(), env.states()[:, :2], env.goal_states()[:, :2]
    walked = np.zeros(64)
    for _ in range(env.max_episode_steps - 1):
        before = env.states()
        env.step(env.oracle())
        walked += np.sqrt(np.square(env.states() - before).sum(1))
    assert np.abs(walked - told).max() < 1e-5 and env.distance().max() < 1e-5
    assert (told >= np.sqrt(np.square(start - goal).sum(1)) - 1e-9).all()
    # Any way crosses the wall's two faces somewhere in the door.
    gap = env.looks["door_width"] / 2 - env.looks["agent_size"]
    half = env.looks["wall_thickness"] / 2 + env.looks["agent_size"]
    wall, door = env.goal_states()[:, 2:].T
    side = np.sign(goal[:, 0] - start[:, 0])
    heights = door + gap * np.linspace(-1, 1, 201)[:, None]
    entry = np.stack([np.broadcast_to(wall - side * half, heights.shape), heights], -1)
    leaving = np.stack([np.broadcast_to(wall + side * half, heights.shape), heights], -1)
    length = lambda a, b: np.sqrt(np.square(a - b).sum(-1))
    ways = length(start, entry)[:, None] + length(entry[:, None], leaving[None]) + length(leaving, goal)[None]
    inside = (np.abs(start[:, 0] - wall) > half) & (np.abs(goal[:, 0] - wall) > half)  # none begins in the door
    shortest = ways.min((0, 1))
    assert inside.sum() > 40 and np.abs(shortest - told)[inside].max() < 1e-3
    assert (told <= shortest + 1e-9)[inside].all()


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_passes_a_wall(policy):
    env = make_env("study:two-room", num_envs=64, env_options={"vary": "all", "obs": "state"})
    crossed = 0
    for before, after in run(env, policy, 60):
        looks, wall, door = env.looks, after[:, 2], after[:, 3]
        half, gap = looks["wall_thickness"] / 2 + looks["agent_size"], looks["door_width"] / 2 - looks["agent_size"]
        in_wall, in_door = np.abs(after[:, 0] - wall) < half - 1e-5, np.abs(after[:, 1] - door) <= gap + 1e-5
        assert (in_door | ~in_wall).all()
        margin = looks["border"] + looks["agent_size"] - 1e-5
        assert (after[:, :2] > margin[:, None]).all() and (after[:, :2] < 1 - margin[:, None]).all()
        through = (before[:, 0] < wall) != (after[:, 0] < wall)
        share = (wall - before[:, 0]) / np.where(through, after[:, 0] - before[:, 0], 1)
        assert (np.abs(before[:, 1] + share * (after[:, 1] - before[:, 1]) - door) <= gap + 1e-5)[through].all()
        crossed += int(through.sum())
    assert crossed > 0


def test_who_goes_straight_stands_at_walls_that_a_script_goes_around():
    stands = {}
    for policy in ("scripted", "straight"):
        env = make_env("study:two-room", num_envs=64, env_options={"obs": "state", "goal": "other_room"})
        at_wall = 0.0
        for _, after in run(env, policy, 60):
            half = env.looks["wall_thickness"] / 2 + env.looks["agent_size"]
            far = np.abs(after[:, 1] - after[:, 3]) > 0.1
            at_wall += float((far & (np.abs(np.abs(after[:, 0] - after[:, 2]) - half) < 1e-3)).mean()) / 60
        stands[policy] = at_wall
    assert stands["straight"] > 0.2 > 5 * stands["scripted"]


def test_a_wall_is_not_jumped_over_by_a_fast_agent():
    env = make_env(
        "study:two-room", env_options={"speed": 0.05, "wall_thickness": 0.03, "agent_size": 0.02, "obs": "state"}
    )
    env.reset(0, starts=[[0.45, 0.2, 0.5, 0.5]], goals=[[0.8, 0.2, 0.5, 0.5]])
    for _ in range(30):
        env.step(np.array([[1.0, -0.1]]))
    assert np.isclose(env.states()[0, 0], 0.5 - 0.015 - 0.02) and env.states()[0, 1] < 0.2  # stopped, and slid along


def test_a_push_moves_the_block_and_one_beside_its_middle_turns_it():
    env = make_env("study:push-block", num_envs=3, env_options={"obs": "state"})
    reach = 0.08 + 0.03
    starts = np.array([[0.5 - reach - 0.01, 0.5 + beside, 0.5, 0.5, 0.0] for beside in (0.0, 0.06, -0.06)])
    env.reset(0, starts=starts, goals=starts)
    for _ in range(4):
        env.step(np.tile([1.0, 0.0], (3, 1)))
    x, y, angle = env.states()[:, 2:].T
    assert np.allclose(x[0], 0.5 + 4 * 0.04 - 0.01) and np.isclose(y[0], 0.5) and angle[0] == 0
    assert angle[1] < -0.1 and np.isclose(angle[2], -angle[1])
    assert env.task.valid(env.states(), env.looks).all()


@pytest.mark.parametrize("policy", ["random", "persistent", "scripted"])
def test_the_block_stays_where_it_can_be_pushed_and_nobody_stands_in_it(policy):
    env = make_env("study:push-block", num_envs=32, env_options={"vary": "all", "obs": "state", "limit": 500})
    moved = np.zeros(32)
    for before, after in run(env, policy, 80):
        assert env.task.valid(after, env.looks).all()
        moved += np.abs(after[:, 2:4] - before[:, 2:4]).sum(1)
    assert (moved > 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_every_factor_of_variation_changes_pixels_or_what_moves(name):
    known = make_env(name).factors.known
    assert len(known) >= 8
    seen = {}
    for factor in (None, *known):
        asked = {"show_goal": True, "vary": [] if factor is None else [factor]}
        env = make_env(name, num_envs=3, env_options=asked)
        pictures = [env.reset([7, 8, 9]).obs["image"]]
        starts, goals = env.states(), env.goal_states()
        if name != "study:two-room":  # whose state tells factors, too
            starts, goals = seen[None][1:] if factor else (starts, goals)
        pictures.append(env.reset([7, 8, 9], starts=starts, goals=goals).obs["image"])
        pictures += [env.step(env.oracle()).obs["image"] for _ in range(30 if name == "study:push-block" else 4)]
        seen[factor] = (np.concatenate(pictures[1:]), starts, goals)
    same = [factor for factor in known if np.array_equal(seen[factor][0], seen[None][0])]
    assert not same


def test_a_factor_that_does_not_vary_is_the_same_in_all_episodes_and_one_that_does_is_not():
    env = make_env(
        "study:two-room", num_envs=50, env_options={"vary": "[door,agent_color]", "speed": 0.04, "wall": "random"}
    )
    env.reset(0)
    spread = {name: values.std(0).max() for name, values in env.looks.items()}
    assert {name for name, value in spread.items() if value > 1e-6} == {"door", "agent_color", "wall"}
    assert (env.looks["speed"] == 0.04).all()
    for name in ("door", "agent_color", "wall"):
        factor = env.factors.known[name]
        assert (env.looks[name] >= factor.low).all() and (env.looks[name] <= factor.high).all()


def test_what_is_drawn_is_uniform_and_of_the_episode_alone():
    draws = Draws(np.arange(2000))
    values = draws.uniform("place", 3, 2)
    assert abs(values.mean() - 0.5) < 0.02 and abs(values.std() - 12**-0.5) < 0.01
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.06 and abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 0.06
    assert np.array_equal(draws.rows(np.array([5])).uniform("place", 3, 2)[0], values[5])
    others = [draws.uniform("place", 4, 2), draws.uniform("other", 3, 2), draws.salted(1).uniform("place", 3, 2)]
    assert not any(np.isclose(values, other).any() for other in others)
    grain = draws.bumps("noise", 0, 50)
    assert abs(grain.mean()) < 0.01 and abs(grain.std() - 1) < 0.01


def test_the_oracle_pushes_the_block_nowhere_against_the_rim_of_its_circle():
    env = make_env("study:push-block", num_envs=100, env_options={"obs": "state"})
    rng, room = np.random.default_rng(0), BlockFrame.room(make_env("study:push-block").looks)[0]
    start, goal, heading = rng.uniform(0, 2 * np.pi, (3, 100))
    out = lambda angle, far: 0.5 + far * np.column_stack([np.cos(angle), np.sin(angle)])
    far = 0.97 * room
    states, goals = (
        np.column_stack([out(angle, far - 0.17), out(angle, far), heading - np.pi]) for angle in (start, goal)
    )
    env.reset(0, starts=states, goals=goals)
    for _ in range(60):
        env.step(env.oracle())
        assert (np.sqrt(np.square(env.states()[:, 2:4] - 0.5).sum(1)) < room - 1e-4).all()
    assert env.success().all()


def test_noise_is_another_one_in_every_row_and_nothing_else_moves_what_stands_still():
    for noise in (0, 5):
        env = make_env("study:point-goal", env_options={"noise": noise})
        pictures = [env.reset(0).obs["image"], *(env.step(np.zeros((1, 2))).obs["image"] for _ in range(2))]
        assert [np.array_equal(pictures[0], other) for other in pictures[1:]] == [noise == 0] * 2
