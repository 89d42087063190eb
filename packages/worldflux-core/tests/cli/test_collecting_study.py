"""Datasets of environments for study: true states beside what is observed, whoever acts, the same from every number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldflux.cli import main
from worldflux.core.errors import ConfigurationError
from worldflux.data import open_dataset
from worldflux.envs import make_env
from worldflux.experiment import collect

OPTIONS = {"limit": 12, "size": 16}


def test_a_dataset_holds_the_true_state_of_every_row(tmp_path: Path) -> None:
    collect(tmp_path / "set", env="study:two-room", episodes=3, num_envs=2, env_options=OPTIONS | {"door": "random"})
    dataset = open_dataset(tmp_path / "set")
    assert list(dataset.obs_spec) == ["image"] and list(dataset.info_spec) == ["agent", "wall", "door"]
    rows = dataset.episode(1)
    env = make_env("study:two-room", env_options=OPTIONS)
    states = env.task.state_of({name: rows[f"info/{name}"] for name in env.task.parts})
    pictures = [env.reset(0, starts=state[None]).obs["image"][0] for state in states]
    assert np.array_equal(rows["obs/image"], pictures)


@pytest.mark.parametrize("policy", ["scripted", "straight", "random", "persistent", "mixed", "varied", "oracle"])
def test_an_episode_does_not_depend_on_how_many_are_recorded_at_once(tmp_path: Path, policy: str) -> None:
    for num in (1, 3):
        asked = OPTIONS | {"obs": "state"}
        collect(
            tmp_path / str(num),
            env="study:push-block",
            policy=f"study:{policy}",
            episodes=3,
            num_envs=num,
            env_options=asked,
        )
    one, three = (open_dataset(tmp_path / str(num)) for num in (1, 3))
    first = one.episode(0)
    assert sum(np.array_equal(first["obs/state"], three.episode(i)["obs/state"]) for i in range(3)) == 1


def test_half_of_the_mixed_and_varied_episodes_go_through_the_door(tmp_path: Path) -> None:
    asked = {"obs": "state", "goal": "other_room", "limit": 60}
    shares = {}
    for policy in ("mixed", "varied", "persistent", "scripted"):
        out = tmp_path / policy
        collect(out, env="study:two-room", policy=f"study:{policy}", episodes=40, num_envs=40, env_options=asked)
        x = np.stack([open_dataset(out).episode(i)["info/agent"][:, 0] for i in range(40)])
        shares[policy] = ((x.min(1) < 0.4) & (x.max(1) > 0.6)).mean()
    assert shares["persistent"] < 0.3 < shares["mixed"] < 0.8 < 0.95 < shares["scripted"] + 0.01
    assert 0.3 < shares["varied"] < 0.8


def test_a_policy_that_is_not_there_or_cannot_act_here_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown policy 'study:scriptd'.*Did you mean 'study:scripted'"):
        collect(tmp_path / "set", env="study:two-room", policy="study:scriptd", episodes=1)
    pytest.importorskip("gymnasium")
    with pytest.raises(ConfigurationError, match="'study:oracle' acts by the true state .*SyncVectorEnv is none"):
        collect(tmp_path / "set", env="CartPole-v1", policy="study:oracle", episodes=1)
    assert not (tmp_path / "set").exists()


def test_the_command_names_an_environment_for_study_and_its_options(tmp_path: Path) -> None:
    out, options = tmp_path / "set", ["door=random", "vary=[speed,blur]", "limit=5"]
    words = ["data", "collect", "--env", "study:two-room", "--policy", "study:mixed", "--episodes", "4", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--out", str(out), *(word for option in options for word in ("--env-set", option))])
    dataset = open_dataset(out)
    assert list(dataset.info_spec) == ["agent", "wall", "door", "blur", "speed"] and len(dataset) == 4 * 6
    assert dataset.recording.provenance["policy"] == "study:mixed"
