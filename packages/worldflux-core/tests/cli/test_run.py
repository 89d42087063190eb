"""A run opened from its directory: what it says of itself, and how it acts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.core.registry import ComponentSpec, WorldModelRegistry
from worldflux.core.trajectory import Trajectory
from worldflux.envs.vector import episode_seed
from worldflux.experiment import Run, fit, resume_run

gym = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.usefixtures("toy")
SMALL = {"steps": 40, "eval_every": 0, "eval_episodes": 2, "eval_explore": True, "save_every": 0, "device": "cpu"}


class Doors(gym.Env):
    """Three doors, counted from 5; what is behind one is paid."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(3, start=5)

    def __init__(self, render_mode="rgb_array"):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.time += 1
        return np.full(2, self.time / 4, np.float32), float(action - 5), False, self.time == 4, {}

    def render(self):
        return np.full((20, 30, 3), 10 * self.time, np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy):
    return fit("toyworld", env=Doors, run=tmp_path_factory.mktemp("run") / "doors", **SMALL)


def play(agent, *, seed):
    env = Doors()
    obs, _ = env.reset(seed=seed)
    agent.reset()
    total, over = 0.0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(agent.act(obs))
        total, over = total + reward, terminated or truncated
    return total


def test_an_agent_of_a_directory_needs_no_environment(run):
    def gone():
        raise AssertionError("the robot has no simulator")

    agent = Run.load(run.directory, env=gone).agent()
    assert 0 <= play(agent, seed=0) <= 8


def test_an_agent_acts_as_the_run_is_evaluated(run):
    earned = run.evaluate(episodes=1, seed=3).returns
    assert earned == (play(run.agent(seed=3), seed=episode_seed(3, 0, 0)),)
    assert play(run.agent(explore=False), seed=0) == 0  # the toy's best is the first door


def test_an_agent_of_a_run_of_an_earlier_version_asks_the_environment(run, tmp_path):
    for file in ("config.json", "run_manifest.json"):
        (tmp_path / file).write_bytes((run.directory / file).read_bytes())
    opened = Run(tmp_path, run.settings, env=Doors, model=run.model)
    assert 5 <= opened.agent().act(np.zeros(2)) <= 7


def test_an_agent_sees_pictures_as_its_run_did(tmp_path):
    run = fit("toyworld", env=Doors, run=tmp_path / "seen", render_size=8, frame_stack=2, **SMALL)
    shown = []
    agent = Run.load(run.directory).agent()
    encode, agent.policy = agent.policy, lambda obs, *args, **how: shown.append(obs["obs"]) or encode(obs, *args, **how)
    agent.policy.initial = encode.initial
    env = Doors()
    env.reset(seed=0)
    agent.act(env.render())
    env.step(5)
    agent.act(env.render())
    assert shown[1].shape == (1, 6, 8, 8)
    assert [int(shown[1][0, i].unique()) for i in (0, 3)] == [0, 10]


def test_a_run_says_what_it_is(run, tmp_path):
    text = repr(Run.load(run.directory, env=Doors))
    for part in ("doors", "toyworld in Doors", "finished", "40 steps", "return", "random"):
        assert part in text


def test_a_run_reads_its_evaluation(run):
    assert Run.load(run.directory, env=Doors).evaluation == run.evaluation


def test_a_damaged_evaluation_is_named(run, tmp_path):
    for file in ("config.json", "run_manifest.json"):
        (tmp_path / file).write_bytes((run.directory / file).read_bytes())
    assert Run.load(tmp_path).evaluation is None
    (tmp_path / "evaluation.json").write_text(json.dumps({"trained": {"returns": 3}}))
    with pytest.raises(CheckpointError, match=r"evaluation\.json holds no evaluation"):
        Run.load(tmp_path)


# --- what it was told, and what that came to --------------------------------------------------------------------------


def test_config_json_says_what_was_asked_and_what_it_resolved_to(tmp_path):
    made = fit("toyworld", env=Doors, run=tmp_path, model_options={"explode_at": 0}, learning_rate=0.01, **SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    asked = {"model", "env", "model_options", "learning_rate", *SMALL}
    assert set(config["asked"]) == asked
    resolved = config["resolved"]
    assert resolved["device"] == "cpu"
    assert resolved["model_options"] == made.model.config.to_dict()
    assert resolved["recipe"]["env_steps"] == 120
    assert resolved["min_rows"] == 2 * 4  # of the recipe's batch
    assert all(config[name] is not None for name in ("steps", "eval_every", "save_every", "replay_capacity"))
    resume_run(tmp_path, env=Doors, steps=60)
    again = json.loads((tmp_path / "config.json").read_text())
    assert set(again["asked"]) == asked and again["steps"] == 60


class Shifted:
    """A rollout that is none: it ends where it begins."""

    def rollout_open_loop(self, model, initial_state, actions, conditions, deterministic):
        states = initial_state.map(lambda value: value.expand(len(actions) + 1, *value.shape))
        return Trajectory(states, actions)


@pytest.fixture
def registered():
    WorldModelRegistry.register_component("test.shifted", Shifted, ComponentSpec("test.shifted", "rollout_executor"))


def test_a_run_has_the_components_it_was_told_and_keeps_them(tmp_path, registered):
    options = {"component_overrides": {"rollout_executor": "test.shifted"}}
    made = fit("toyworld", env=Doors, run=tmp_path, **options, **SMALL)
    for run in (made, Run.load(tmp_path), resume_run(tmp_path, env=Doors, steps=60)):
        assert isinstance(run.model.rollout_executor, Shifted)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["component_overrides"] == config["resolved"]["components"] == options["component_overrides"]


@pytest.mark.parametrize("component", [Shifted, Shifted()], ids=["class", "instance"])
def test_a_component_without_an_id_is_refused_because_no_run_could_keep_it(tmp_path, component):
    with pytest.raises(ConfigurationError, match="expected the id of a registered component.*register_component"):
        fit("toyworld", env=Doors, run=tmp_path, component_overrides={"rollout_executor": component}, **SMALL)
    assert not list(tmp_path.iterdir())
