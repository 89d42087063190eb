"""The learning runs: whole trainings of minutes, each held to the bar that docs/results records."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.slow


def benchmark(name):
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def learning():
    yield from benchmark("learning")


@pytest.fixture(scope="module")
def offline():
    yield from benchmark("offline")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("case", "model"),
    [
        ("cartpole", "dreamer:ci"), ("pendulum", "dreamer:ci"), ("pendulum", "tdmpc2:ci"), ("pendulum", "planet:ci"),
        ("pendulum", "mbpo:ci"),
    ],
)  # fmt: skip
def test_a_newcomers_preset_solves_the_task_within_its_minutes(learning, case, model, seed, tmp_path):
    result = learning.learn(learning.CASES[case, model], model, seed, tmp_path / "run")
    assert result["passed"], result


def test_imagination_beats_copying_the_last_frame(learning, tmp_path):
    result = learning.learn(learning.CASES["pixels", "dreamer:ci"], "dreamer:ci", 0, tmp_path / "run")
    assert result["passed"], result


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("case", ["cartpole", "pendulum"])
def test_recorded_episodes_alone_teach_more_than_they_show(offline, case, seed, tmp_path):
    result = offline.learn(offline.CASES[case], seed, tmp_path)
    assert result["passed"], result
