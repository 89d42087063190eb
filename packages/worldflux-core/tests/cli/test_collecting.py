"""Recording episodes: whole ones, as many as asked for, none twice, by whoever acts."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset
from worldflux.envs import make_env
from worldflux.envs.limits import begin_anew
from worldflux.experiment import collect

gymnasium = pytest.importorskip("gymnasium")


class Noise(gymnasium.Env):
    """Shows numbers of its seed; over after 3 to 9 steps, every other time in truth; pays the step's number."""

    def __init__(self, *, broken_at: int | None = None) -> None:
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.broken_at = broken_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.t = int(self.np_random.integers(3, 10)), 0
        return self.shown(), {}

    def shown(self):
        value = np.nan if self.t == self.broken_at else 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32) + np.float32(value)

    def step(self, action):
        self.t += 1
        over = self.t == self.length
        return self.shown(), float(self.t), over and self.length % 2 == 0, over and self.length % 2 == 1, {}


class Frames(Noise):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def shown(self):
        return self.np_random.integers(0, 256, (8, 8, 3), np.uint8)


def test_whole_episodes_are_recorded_in_the_arrival_convention(tmp_path: Path) -> None:
    done = collect(tmp_path / "set", env=Noise, episodes=7, num_envs=3)
    dataset = open_dataset(tmp_path / "set")
    assert (done.episodes, done.added, done.rows, done.sealed) == (7, 7, len(dataset), 7)
    for index in range(7):
        rows = dataset.episode(index)
        length = len(rows["reward"])
        assert rows["reward"].tolist() == list(range(length))
        assert rows["is_terminal"][-1] == ((length - 1) % 2 == 0)
        assert (rows["action"][:-1].sum(1) == 1).all() and not rows["action"][-1].any()
    assert done.mean_return == pytest.approx(np.mean([dataset.episode(i)["reward"].sum() for i in range(7)]))


def test_called_again_it_goes_on_and_no_episode_repeats(tmp_path: Path) -> None:
    for episodes in (4, 4, 9):
        done = collect(tmp_path / "set", env=Noise, episodes=episodes, num_envs=2)
        assert done.episodes == episodes
    dataset = open_dataset(tmp_path / "set")
    assert len({dataset.episode(i)["obs/obs"].tobytes() for i in range(9)}) == 9
    assert [source["session"] for source in dataset.recording.provenance["sources"]] == [0, 1]


def test_the_same_call_records_the_same(tmp_path: Path) -> None:
    for name in ("a", "b"):
        collect(tmp_path / name, env=Noise, episodes=3, seed=5)
    collect(tmp_path / "c", env=Noise, episodes=3, seed=6)
    a, b, c = (open_dataset(tmp_path / name) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint


def test_every_episode_that_is_begun_is_waited_for(tmp_path: Path) -> None:
    """With many environments the first to end are the short ones: taking those would be a biased sample."""
    collect(tmp_path / "set", env=Noise, episodes=40, num_envs=40)
    first = collect(tmp_path / "one", env=Noise, episodes=40, num_envs=1, seed=3)
    mean = len(open_dataset(tmp_path / "set")) / 40
    assert abs(mean - first.rows / 40) < 1.5  # 7 rows are the mean of 4 to 10


def test_who_stops_keeps_what_is_whole(tmp_path: Path) -> None:
    asked = []
    done = collect(tmp_path / "set", env=Noise, episodes=50, stop=lambda: asked.append(0) or len(asked) > 40)
    assert 0 < done.episodes < 50 and done.sealed == done.episodes == len(open_dataset(tmp_path / "set").episodes)


def record_without_end(place: Path) -> None:
    collect(place, env=Noise, episodes=10**6, num_envs=2, seal_seconds=0.01)


def test_who_is_killed_loses_what_was_not_sealed_and_nothing_else(tmp_path: Path) -> None:
    place, draw, before = tmp_path / "set", random.Random(0), {}
    for _ in range(4):
        process = multiprocessing.get_context("fork").Process(target=record_without_end, args=(place,))
        process.start()
        while process.is_alive() and not (place / "dataset.json").exists():
            time.sleep(0.01)
        time.sleep(draw.uniform(0.05, 0.2))
        process.kill()
        process.join()
        dataset = open_dataset(place)
        assert not list(dataset.recording.verify())
        after = {name: dataset.episode(index)["obs/obs"].tobytes() for index, name in enumerate(dataset.episodes.ids)}
        assert after.items() >= before.items() and len(set(after.values())) == len(after)
        assert all(dataset.episode(index)["is_last"][-1] for index in range(len(after)))
        before = after
    assert collect(place, env=Noise, episodes=len(before) + 2).episodes == len(before) + 2


def test_frames_that_are_stacked_are_stored_once(tmp_path: Path) -> None:
    collect(tmp_path / "set", env=Frames, episodes=3, frame_stack=4)
    collect(tmp_path / "plain", env=Frames, episodes=3)
    stacked, plain = open_dataset(tmp_path / "set"), open_dataset(tmp_path / "plain")
    assert stacked.obs_spec["obs"].shape == (12, 8, 8)
    assert np.load(next((tmp_path / "set").glob("shards/*/*obs*.npy"))).shape[1:] == (3, 8, 8)
    for index in range(3):
        shown, frames = (one.episode(index)["obs/obs"] for one in (stacked, plain))
        for t in range(len(frames)):
            assert np.array_equal(shown[t], np.concatenate([frames[max(t - k, 0)] for k in (3, 2, 1, 0)]))


def test_a_function_acts(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def always(obs):\n    return np.eye(3)[np.full(len(obs['obs']), 2)]\n"
        "def wrong(obs):\n    return np.zeros(len(obs['obs']))\n"
        "class Other:\n    def __call__(self, obs):\n        return np.eye(3)[np.ones(len(obs['obs']), int)]\n"
    )
    for name, taken in (("always", 2), ("Other", 1)):
        collect(tmp_path / name, env=Noise, episodes=2, num_envs=2, policy=f"{tmp_path}/mine.py:{name}")
        assert (open_dataset(tmp_path / name).episode(0)["action"][:-1, taken] == 1).all()
    with pytest.raises(ConfigurationError, match=r"returned \(1,\), expected flat actions \(1, 3\)"):
        collect(tmp_path / "wrong", env=Noise, episodes=2, policy=f"{tmp_path}/mine.py:wrong")
    with pytest.raises(ConfigurationError, match="policy '.*mine.py:alway': no 'alway'.*'always'"):
        collect(tmp_path / "missing", env=Noise, episodes=2, policy=f"{tmp_path}/mine.py:alway")
    with pytest.raises(ConfigurationError, match="expected random, the directory of a run, module:function"):
        collect(tmp_path / "missing", env=Noise, episodes=2, policy="expert")
    assert not (tmp_path / "missing").exists() and not (tmp_path / "wrong").exists()


def test_without_an_environment_there_is_nothing_to_record(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="env is missing"):
        collect(tmp_path / "set", episodes=2)


def test_a_run_that_is_not_there_is_said_to_be_missing_before_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="policy is 'nowhere', which is no run's directory"):
        collect(tmp_path / "set", episodes=1, policy="nowhere")


def test_what_shows_no_number_is_named_and_the_episodes_before_it_are_kept(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="row 9: obs/obs is nan"):
        collect(tmp_path / "set", env=lambda: Noise(broken_at=9), episodes=50, seed=1)
    assert len(open_dataset(tmp_path / "set").episodes) > 0


def test_episodes_of_another_environment_are_not_mixed_in(tmp_path: Path) -> None:
    collect(tmp_path / "set", env=Noise, episodes=1)
    with pytest.raises(ConfigurationError, match=r"holds episodes of env Noise\(\), these are of env .*lambda"):
        collect(tmp_path / "set", env=lambda: Noise(), episodes=2)


def test_an_environment_that_is_seen_otherwise_is_another(tmp_path: Path) -> None:
    collect(tmp_path / "set", env=Frames, episodes=1)
    with pytest.raises(ConfigurationError, match="holds episodes of no image_size, these are of image_size 4"):
        collect(tmp_path / "set", env=Frames, episodes=2, image_size=4)
    with pytest.raises(ConfigurationError, match="whose obs_spec is"):
        collect(tmp_path / "set", env=Frames, episodes=2, frame_stack=2)


def test_where_episodes_come_from_is_written_down(tmp_path: Path) -> None:
    collect(tmp_path / "set", env="CartPole-v1", episodes=1, seed=3, env_options={"sutton_barto_reward": True})
    told = open_dataset(tmp_path / "set").recording.provenance
    assert (told["env"], told["policy"], told["seed"], told["session"]) == ("CartPole-v1", "random", 3, 0)
    assert told["env_options"] == {"sutton_barto_reward": "True"}
    assert told["env_version"]["gymnasium"] == gymnasium.__version__ and "worldflux-core" in told["versions"]


class Endless(Noise):
    """Never over; shows which episode it is and the step."""

    begun = 0

    def reset(self, *, seed=None, options=None):
        self.begun += 1
        return super().reset(seed=seed, options=options)

    def shown(self):
        return np.array([self.begun / 100, self.t / 100], np.float32)

    def step(self, action):
        shown, reward, *_ = super().step(action)
        return shown, reward, False, False, {}


def test_an_episode_without_end_is_cut_where_it_is_asked_for_and_another_begins(tmp_path: Path) -> None:
    collect(tmp_path / "set", env=Endless, episodes=5, num_envs=2, max_episode_steps=4)
    dataset = open_dataset(tmp_path / "set")
    assert dataset.episodes.lengths.tolist() == [5] * 5 and not dataset.episodes.terminal.any()
    for index in range(5):
        rows = dataset.episode(index)
        assert rows["obs/obs"][:, 1] == pytest.approx(np.arange(5) / 100)  # from its reset on
        assert rows["reward"].tolist() == [0, 1, 2, 3, 4] and not rows["action"][-1].any()
    assert dataset.recording.provenance["max_episode_steps"] == 4


def test_an_episode_that_ends_at_the_limit_keeps_its_end(tmp_path: Path) -> None:
    collect(tmp_path / "plain", env=Noise, episodes=6)
    collect(tmp_path / "cut", env=Noise, episodes=6, max_episode_steps=6)
    plain, cut = open_dataset(tmp_path / "plain").episodes, open_dataset(tmp_path / "cut").episodes
    assert cut.lengths.tolist() == np.minimum(plain.lengths, 7).tolist() and 7 in cut.lengths
    assert cut.terminal.tolist() == (plain.terminal & (plain.lengths <= 7)).tolist()


def test_memory_stays_bounded_where_no_limit_is_asked_for_and_the_way_out_is_said(
    tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("worldflux.experiment.collecting.memory", lambda: 100_000)
    collect(tmp_path / "set", env=Endless, episodes=2)
    assert open_dataset(tmp_path / "set").episodes.lengths.tolist() == [
        24,
        24,
    ]  # a quarter holds 23 rows of a KB and 20 bytes
    assert (
        "environment 0: its episode was not over after 23 steps" in caplog.text and "--max-episode-steps" in caplog.text
    )


def test_frames_of_episodes_that_are_cut_are_stacked_from_their_first_on(tmp_path: Path) -> None:
    collect(tmp_path / "set", env=Frames, episodes=3, frame_stack=2, max_episode_steps=2)
    dataset = open_dataset(tmp_path / "set")
    assert dataset.episodes.lengths.tolist() == [3, 3, 3]
    shown = dataset.episode(1)["obs/obs"]
    assert np.array_equal(shown[0, :3], shown[0, 3:]) and not np.array_equal(shown[1, :3], shown[1, 3:])


def test_rows_under_way_are_told_while_no_episode_ends(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("worldflux.experiment.collecting.TELL_SECONDS", 0)
    told = []
    collect(tmp_path / "set", env=Endless, episodes=1, num_envs=2, max_episode_steps=3, progress=told.append)
    assert [now.under_way for now in told][:4] == [1, 2, 3, 0]  # one episode is asked for, one is kept


def test_a_vector_that_others_built_is_told_to_limit_its_own_episodes() -> None:
    vector = make_env(gymnasium.vector.SyncVectorEnv([Endless]))
    with pytest.raises(ConfigurationError, match=r"gymnasium\.wrappers\.TimeLimit"):
        begin_anew(vector, np.array([True]))


@pytest.mark.parametrize("steps", [0, 2.0, True])
def test_a_limit_is_a_number_of_steps(tmp_path: Path, steps) -> None:
    with pytest.raises(ConfigurationError, match="max_episode_steps is .* expected a whole number"):
        collect(tmp_path / "set", env=Noise, episodes=1, max_episode_steps=steps)


def test_an_environment_made_with_other_options_is_another(tmp_path: Path) -> None:
    collect(tmp_path / "set", env="CartPole-v1", episodes=1)
    with pytest.raises(ConfigurationError, match=r"env_options .*sutton_barto_reward.*'worldflux data merge'"):
        collect(tmp_path / "set", env="CartPole-v1", episodes=2, env_options={"sutton_barto_reward": True})
    assert len(open_dataset(tmp_path / "set").episodes) == 1
