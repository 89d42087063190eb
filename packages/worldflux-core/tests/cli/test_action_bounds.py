"""Actions recorded in one environment, learned from for another: refused where the same number is another action."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import ActionBounds, DatasetWriter, open_dataset
from worldflux.experiment import Run, collect, fit, judge

gym = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.usefixtures("toy")
SMALL = {"device": "cpu", "threads": 1, "eval_episodes": 1}
SHORT = {**SMALL, "updates": 2}


class Push(gym.Env):
    """Pushes between -``most`` and ``most`` move a point; over after eight."""

    def __init__(self, most: float = 2) -> None:
        self.observation_space = gym.spaces.Box(-99, 99, (1,), np.float32)
        self.action_space = gym.spaces.Box(-most, most, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.at = 0, np.zeros(1, np.float32)
        return self.at.copy(), {}

    def step(self, action):
        self.time, self.at = self.time + 1, self.at + action
        return self.at.copy(), 1.0, False, self.time == 8, {}


def strong():
    return Push(5)


@pytest.fixture(scope="module")
def place(tmp_path_factory, toy):
    root = tmp_path_factory.mktemp("bounds")
    for name, env, seed in (("set", Push, 0), ("strong", strong, 1)):
        collect(root / name, env=env, episodes=4, seed=seed)
    with DatasetWriter(root / "unknown", {"obs": vector(1)}, ActionSpec("continuous", 1)) as writer:
        for i in range(4):
            writer.append({"obs/obs": np.full((9, 1), i), "action": np.zeros((9, 1)), "reward": np.zeros(9)})
    fit("toyworld", data=root / "set", run=root / "run", **SHORT)
    fit("toyworld", env=Push, steps=16, run=root / "acted", **SMALL)
    return root


def test_collecting_keeps_the_bounds_of_the_environment(place):
    assert open_dataset(place / "set").action_bounds == ActionBounds((-2.0,), (2.0,))


def test_the_replay_of_a_run_keeps_the_bounds_of_its_environment(place):
    assert open_dataset(place / "acted").action_bounds == ActionBounds((-2.0,), (2.0,))
    (newest, *_) = (place / "acted/checkpoints").glob("step-*")
    assert open_dataset(newest).action_bounds == ActionBounds((-2.0,), (2.0,))
    assert open_dataset(place / "acted").recording.has_rewards


BOTH = r"-2 to 2.*-5 to 5|-5 to 5.*-2 to 2"


@pytest.mark.parametrize(
    "asked",
    [
        {"data": "set", "env": strong, "steps": 16},
        {"data": "set", "eval_env": strong, "updates": 2},
        {"data": "acted", "eval_env": strong, "updates": 2},
        {"data": ["set", "strong"], "updates": 2},
        {"data": "strong", "start_from": "run", "updates": 2},
        {"data": "strong", "start_from": "acted", "updates": 2},
        {"env": strong, "start_from": "run", "steps": 16},
    ],
    ids=[
        "environment",
        "evaluated in",
        "a replay",
        "two sets",
        "from a run on data",
        "from a run in another",
        "run on data alone",
    ],
)
def test_data_meets_no_environment_data_or_run_of_other_bounds(place, tmp_path, asked):
    options = dict(asked)
    for name in ("data", "start_from"):
        if isinstance(one := options.get(name), list):
            options[name] = [place / each for each in one]
        elif one is not None:
            options[name] = place / one
    model = None if "start_from" in asked else "toyworld"
    with pytest.raises(ConfigurationError, match=BOTH):
        fit(model, run=tmp_path / "run", **options, **SMALL)
    assert not (tmp_path / "run/checkpoints").exists()


def test_equal_bounds_and_unknown_ones_go_together(place, tmp_path):
    equal = fit("toyworld", data=place / "set", env=Push, steps=16, run=tmp_path / "a", **SMALL)
    unknown = fit("toyworld", data=place / "unknown", eval_env=strong, run=tmp_path / "b", **SHORT)
    assert equal.status == unknown.status == "finished"


def test_from_one_environment_to_another_the_bounds_may_change(place, tmp_path):
    assert fit(env=strong, start_from=place / "acted", steps=16, run=tmp_path / "run", **SMALL).status == "finished"


def test_a_run_is_not_judged_on_actions_of_other_bounds(place):
    asked = {"context": 1, "horizon": 2, "sequences": 4}
    with pytest.raises(ConfigurationError, match=BOTH):
        judge(Run.load(place / "run"), place / "strong", **asked)
    assert judge(Run.load(place / "run"), place / "unknown", **asked).card["split"] == "data of its own"
