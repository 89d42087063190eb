"""``worldflux data``, as it is typed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from worldflux.cli import main
from worldflux.data import open_dataset

pytest.importorskip("gymnasium")

COLLECT = ["data", "collect", "--env", "Pendulum-v1", "--policy", "random", "--out"]


def worldflux(*args: str) -> SimpleNamespace:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([*args])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A dataset of three episodes."""
    place = tmp_path_factory.mktemp("data") / "set"
    done = worldflux(*COLLECT, str(place), "--episodes", "3", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["episodes"], told["rows"], told["added"], told["finished"]) == (3, 603, 3, True)
    return place


def test_a_dataset_is_inspected(place) -> None:
    told = json.loads(worldflux("data", "inspect", str(place), "--json").out)
    assert (told["episodes"], told["rows"], told["format"]) == (3, 603, "worldflux")
    assert told["modalities"]["obs"]["shape"] == [3] and told["actions"]["dim"] == 1
    assert told["provenance"]["command"].startswith("worldflux data collect --env Pendulum-v1 ")
    text = worldflux("data", "inspect", str(place)).out
    assert told["actions"]["bounds"] == {"low": [-2.0], "high": [2.0]} and "action bounds    -2 to 2" in text
    assert "Pendulum-v1" in text and "obs['obs']  [B, T, 3] float32" in text


def test_a_sound_dataset_is_verified_and_a_fault_exits_with_one(place, tmp_path) -> None:
    assert worldflux("data", "verify", str(place)).out == "sound: 3 episodes, 603 rows\n"
    copy = tmp_path / "copy"
    assert json.loads(worldflux("data", "convert", str(place), str(copy), "--json").out)["episodes"] == 3
    file = next(copy.glob("shards/*/*action*"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = worldflux("data", "verify", str(copy), "--json")
    told = json.loads(done.out)
    assert done.code == 1 and not told["sound"]
    assert str(file) in told["problems"][0] and open_dataset(place).episodes.ids[2] in told["problems"][0]


def test_a_split_is_listed_or_written(place, tmp_path) -> None:
    told = json.loads(worldflux("data", "split", str(place), "--held-out", "0.3", "--json").out)
    assert [len(told[part]["episodes"]) for part in ("train", "held_out")] == [2, 1]
    train, held = tmp_path / "train", tmp_path / "held"
    done = worldflux("data", "split", str(place), str(train), str(held), "--held-out", "0.3")
    assert done.code == 0
    assert list(open_dataset(held).episodes.ids) == told["held_out"]["episodes"]
    assert list(open_dataset(train).episodes.ids) == told["train"]["episodes"]
    assert worldflux("data", "split", str(place), str(train)).code == 2
    both = worldflux("data", "split", str(place), str(tmp_path / "one"), str(tmp_path / "x/../one"), "--json")
    assert both.code == 2 and "give each a folder of its own" in both.out and not (tmp_path / "one").exists()


def test_datasets_are_merged(place, tmp_path) -> None:
    other = tmp_path / "other"
    assert worldflux(*COLLECT, str(other), "--episodes", "1", "--seed", "9").code == 0
    told = json.loads(worldflux("data", "merge", str(place), str(other), str(tmp_path / "both"), "--json").out)
    assert (told["episodes"], told["finished"]) == (4, True)


def test_pictures_are_drawn(place, tmp_path) -> None:
    pytest.importorskip("PIL")
    told = json.loads(worldflux("data", "preview", str(place), "--out", str(tmp_path / "a.png"), "--json").out)
    assert Path(told["picture"]).is_file() and Path(told["animation"]) == tmp_path / "a.gif"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["inspect", "nowhere"], 1, "nowhere is not there"),
        (["inspect", "minary:nowhere"], 2, "unknown format 'minary'"),
        (["convert", "only"], 2, "give at least one SOURCE, and OUT"),
        (["collect", "--episodes", "3", "--out", "x"], 2, "env is missing"),
        (["collect", "--env", "Pendulum-v2", "--episodes", "3", "--out", "x"], 2, "Pendulum-v2"),
    ],
)
def test_a_mistake_is_one_line(args, code, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = worldflux("data", *args, "--json")
    assert done.code == code and message in json.loads(done.out)["error"]["message"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["colour", "path", "source", "format"])
@pytest.mark.parametrize("verb", ["inspect", "verify", "split", "convert"])
def test_an_option_that_a_format_does_not_have_is_one_line(place, tmp_path, verb, option) -> None:
    out = [str(tmp_path / "out")] if verb == "convert" else []
    done = worldflux("data", verb, str(place), *out, "--set", f"{option}=1", "--json")
    message = json.loads(done.out)["error"]["message"]
    assert done.code == 2 and (f"has no option '{option}'" in message or "say --format NAME" in message)


def started(*args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "worldflux.cli", *args]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not file.exists():
        time.sleep(0.02)


def test_who_is_asked_to_stop_keeps_every_whole_episode_and_goes_on(tmp_path) -> None:
    place = tmp_path / "set"
    command = [*COLLECT, str(place), "--episodes", "100000", "--seal-seconds", "0", "--json"]
    process = started(*command)
    wait_for(place / "dataset.json", process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    dataset = open_dataset(place)
    count = len(dataset.episodes)
    assert json.loads(out)["episodes"] == count and not json.loads(out)["finished"]
    assert count and not list(dataset.recording.verify())
    command[command.index("100000")] = str(count + 2)
    assert worldflux(*command).code == 0
    again = open_dataset(place)
    assert again.episodes.ids[:count] == dataset.episodes.ids and len(again.episodes) == count + 2
    assert len({again.episode(i)["obs/obs"].tobytes() for i in range(count + 2)}) == count + 2


def test_who_stops_what_never_ends_is_told_how_to_end_it(tmp_path) -> None:
    world = tmp_path / "endless.py"
    world.write_text(
        "import os, signal\nimport gymnasium as gym\n"
        "class World(gym.Env):\n"
        "    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n        self.time = 0\n"
        "        return self.observation_space.sample(), {}\n"
        "    def step(self, action):\n        self.time += 1\n"
        "        if self.time == 20:\n            os.kill(os.getpid(), signal.SIGTERM)\n"
        "        return self.observation_space.sample(), 1.0, False, False, {}\n"
    )
    command = ["data", "collect", "--env", f"{world}:World", "--episodes", "2", "--out", str(tmp_path / "set")]
    done = worldflux(*command)
    assert done.code == 143 and "left out: 20 rows of episodes that were not over; --max-episode-steps" in done.out
    done = worldflux(*command, "--max-episode-steps", "15", "--json")
    assert json.loads(done.out)["rows"] == 32 and done.code == 0
