"""The command with DreamerV3: too short to learn, long enough to see every part of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("gymnasium")

SMALL = ["--batch-size", "2", "--sequence-length", "6", "--replay-ratio", "8", "--eval-episodes", "2"]
SHORT = [*SMALL, "--device", "cpu", "--set", "imagination=2", "--json"]


@pytest.fixture(scope="module")
def worldflux(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("runs")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORLDFLUX_", "PYTHON"))}
    env = {**kept, "OMP_NUM_THREADS": "1", "SDL_VIDEODRIVER": "dummy"}

    def run(*args: str) -> dict:
        command = [sys.executable, "-m", "worldflux.cli", *args]
        options = {"capture_output": True, "text": True, "timeout": 300, "check": False}
        done = subprocess.run(command, cwd=cwd, env=env, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_a_run_is_trained_evaluated_and_imagined(worldflux, env, tmp_path):
    run = str(tmp_path / "run")
    trained = worldflux("train", "dreamer:ci", "--env", env, "--run", run, "--steps", "64", "--eval-every", "0", *SHORT)
    assert trained["status"] == "finished"
    evaluated = worldflux("eval", run, "--episodes", "2", "--json")
    assert evaluated["trained"]["episodes"] == evaluated["random"]["episodes"] == 2
    imagined = worldflux("imagine", run, "--context", "2", "--horizon", "3", "--sequences", "2", "--random", "--json")
    assert {"obs", "reward", "continue"} <= set(imagined["errors"])
    assert len(imagined["errors"]["obs"]["mse"]) == 3


def test_pixels_are_imagined_and_judged_where_they_changed(worldflux, tmp_path):
    run = str(tmp_path / "run")
    options = ["--run", run, "--steps", "40", "--render-size", "32", "--eval-every", "0", *SHORT]
    assert worldflux("train", "dreamer:ci", "--env", "CartPole-v1", *options)["status"] == "finished"
    imagined = worldflux("imagine", run, "--context", "2", "--horizon", "3", "--sequences", "2", "--random", "--json")
    assert "changed_mse" in imagined["errors"]["obs"]


def test_the_same_run_twice_is_the_same_run(worldflux, tmp_path):
    results = []
    for name in ("a", "b"):
        options = ["--run", str(tmp_path / name), "--steps", "48", "--eval-every", "24", *SHORT]
        results.append(worldflux("train", "dreamer:ci", "--env", "CartPole-v1", *options)["trained"])
    assert results[0] == results[1]
