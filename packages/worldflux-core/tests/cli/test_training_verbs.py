from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from worldflux.training.lock import RunLock

pytest.importorskip("gymnasium")

TRAIN = ["train", "toyworld:ci", "--env", "CartPole-v1"]
PLAN = ["plan", "runs/a", "--planner", "random", "--episodes", "2"]
SHORT = ["--steps", "120", "--eval-episodes", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def calls(worldflux):
    """A run from start to end, and what can be done with it, in the order it is done."""
    run = ["--run", "runs/a"]
    several = {
        "train": [*TRAIN, *SHORT, *run, "--json"],
        "eval": ["eval", "runs/a", "--episodes", "3", "--json"],
        "threads": ["eval", "runs/a", "--episodes", "1", "--threads", "2", "--json"],
        "no threads": ["eval", "runs/a", "--threads", "0"],
        "threads of training": [*TRAIN, *SHORT, "--run", "runs/t", "--threads", "1", "--json"],
        "eval text": ["eval", "runs/a", "--episodes", "2"],
        "plan": [*PLAN, "--plan-horizon", "3", "--set", "num_samples=8", "--json"],
        "plan text": [*PLAN, "--set", "num_samples=8"],
        "eval and plan": [
            *("eval", "runs/a", "--episodes", "1", "--planner", "random", "--plan-horizon", "2", "--json"),
        ],
        "unknown planner": ["plan", "runs/a", "--planner", "cen"],
        "unknown planner option": [*PLAN, "--set", "num_sample=8"],
        "planner option of another type": [*PLAN, "--set", "exploration=much"],
        "gradient of classes": ["plan", "runs/a", "--planner", "gradient"],
        "horizon of no planner": ["eval", "runs/a", "--plan-horizon", "4"],
        "imagine": ["imagine", "runs/a", "--context", "2", "--horizon", "4", "--sequences", "3", "--random", "--json"],
        "imagine webp": [
            "imagine",
            "runs/a",
            "--context",
            "1",
            "--horizon",
            "2",
            "--sequences",
            "1",
            "--out",
            "x.webp",
        ],
        "imagine mp4": ["imagine", "runs/a", "--out", "x.mp4"],
        "too long": ["imagine", "runs/a", "--horizon", "5000", "--sequences", "1"],
        "again": [*TRAIN, *SHORT, *run],
        "other seed": ["train", *run, "--resume", "--seed", "5"],
        "resume": ["train", *run, "--resume", "--steps", "160", "--json"],
        "default directory": [*TRAIN, *SHORT, "--seed", "3"],
        "pixels": [*TRAIN, *SHORT, "--run", "runs/p", "--render-size", "8", "--json"],
        "imagine pixels": ["imagine", "runs/p", "--context", "1", "--horizon", "3", "--sequences", "2", "--json"],
        "saved model": ["train", "runs/a/model", "--env", "CartPole-v1", *SHORT, "--run", "runs/tuned", "--json"],
        "unknown model": ["train", "toyworld:untryed", "--env", "CartPole-v1"],
        "unknown env": ["train", "toyworld:ci", "--env", "CartPol-v1"],
        "unknown setting": [*TRAIN, "--set", "explode_att=3"],
        "not a setting": [*TRAIN, "--set", "explode_at"],
        "no env": ["train", "toyworld:ci"],
        "no run": ["eval", "runs/aa"],
        "runs": ["eval", "runs"],
        "resume nothing": ["train", "--run", "runs/none", "--resume"],
        "resume nowhere": ["train", "--resume"],
        "negative": [*TRAIN, "--steps", "-3"],
        "device": [*TRAIN, "--device", "gpu", "--run", "runs/d"],
        "nan": [*TRAIN, *SHORT, "--run", "runs/nan", "--set", "explode_at=15", "--save-every", "10"],
    }
    return dict(zip(several, worldflux.several(*several.values()), strict=True))


def test_training_leaves_a_model_metrics_an_evaluation_and_a_curve(calls, worldflux):
    result = json.loads(calls["train"].out)
    assert calls["train"].code == 0
    assert result["status"] == "finished"
    assert result["trained"]["episodes"] == result["random"]["episodes"] == 2
    assert set(result["places"]) == {"run", "model", "metrics", "evaluation", "curve"}
    for path in result["places"].values():
        assert (worldflux.cwd / path).exists()


def test_progress_goes_to_stderr(calls):
    assert "env step" in calls["train"].err
    assert "replay" in calls["train"].err


def test_the_runs_config_says_what_was_trained_where(calls, worldflux):
    config = json.loads((worldflux.cwd / "runs/a/config.json").read_text())
    assert (config["model"], config["env"], config["seed"]) == ("toyworld:ci", "CartPole-v1", 0)
    assert (config["num_envs"], config["batch_size"], config["sequence_length"]) == (2, 2, 4)


def test_threads_are_taken_and_told(calls, worldflux):
    assert calls["threads"].code == calls["threads of training"].code == 0
    assert json.loads((worldflux.cwd / "runs/t/config.json").read_text())["threads"] == 1
    assert json.loads((worldflux.cwd / "runs/t/run_manifest.json").read_text())["threads"] == 1
    assert json.loads((worldflux.cwd / "runs/a/config.json").read_text())["threads"] == "auto"


def test_steps_are_environment_steps(calls, worldflux):
    lines = (worldflux.cwd / "runs/a/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["env_steps"] for line in lines]
    assert 150 <= steps[-1] <= 162  # 120, then resumed up to 160
    assert any(116 <= step <= 122 for step in steps)


def test_evaluation_happens_while_training(calls, worldflux):
    lines = (worldflux.cwd / "runs/a/metrics.jsonl").read_text().splitlines()
    assert sum("eval/return" in json.loads(line) for line in lines) >= 5


def test_eval_sets_the_random_policy_beside_the_trained_one(calls):
    result = json.loads(calls["eval"].out)
    assert result["trained"]["episodes"] == result["random"]["episodes"] == 3
    assert result["trained"]["mean"] < 12 < result["random"]["mean"]  # the toy always pushes to one side
    assert result["env"] == "CartPole-v1"


def test_eval_as_text_has_a_line_for_each_policy(calls):
    lines = calls["eval text"].out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["POLICY", "trained", "random"]
    assert lines[4].startswith("The trained policy earns less than acting at random")  # it always pushes to one side
    assert json.loads(calls["eval"].out)["in_words"][0][:30] == lines[4][:30]


def test_plan_sets_planning_beside_the_runs_policy_and_the_random_one(calls):
    result = json.loads(calls["plan"].out)
    assert result["planned"]["episodes"] == result["trained"]["episodes"] == result["random"]["episodes"] == 2
    assert result["planned"]["seed"] == result["random"]["seed"] == 10_000
    planner = result["planner"]
    assert (planner["name"], planner["horizon"], planner["num_samples"]) == ("random", 3, 8)


def test_plan_as_text_names_the_planner_and_has_a_line_for_each_policy(calls):
    lines = calls["plan text"].out.splitlines()
    assert "random, 20 steps ahead" in lines[1]
    assert [line.split()[0] for line in lines[2:6]] == ["POLICY", "planned", "trained", "random"]


def test_eval_may_plan_too(calls):
    result = json.loads(calls["eval and plan"].out)
    assert result["planned"]["episodes"] == 1 and result["planner"]["horizon"] == 2


def test_imagine_writes_an_animation_and_its_numbers(calls, worldflux):
    result = json.loads(calls["imagine"].out)
    assert len(result["errors"]["obs"]["mse"]) == 4
    assert (worldflux.cwd / result["animation"]).read_bytes().startswith(b"GIF8")
    numbers = json.loads((worldflux.cwd / result["numbers"]).read_text())
    assert numbers["errors"] == result["errors"]


def test_the_animation_goes_where_it_is_asked_for(calls, worldflux):
    assert (worldflux.cwd / "x.webp").read_bytes().startswith(b"RIFF")
    assert "x.webp" in calls["imagine webp"].out


def test_pixels_are_judged_where_they_changed(calls):
    assert json.loads(calls["pixels"].out)["status"] == "finished"
    errors = json.loads(calls["imagine pixels"].out)["errors"]["obs"]
    assert "changed_mse" in errors
    assert "copy_last_changed_mse" in errors


def test_a_saved_model_can_be_trained_further(calls):
    assert calls["saved model"].code == 0, calls["saved model"].err


def test_a_directory_with_a_run_is_not_written_over(calls):
    assert calls["again"].code == 2
    assert "already holds a run" in calls["again"].err


def test_a_resumed_run_goes_on_to_more_steps(calls, worldflux):
    assert calls["resume"].code == 0, calls["resume"].err
    config = json.loads((worldflux.cwd / "runs/a/config.json").read_text())
    assert config["steps"] == 160


def test_a_resumed_run_stays_the_run_it_is(calls):
    assert calls["other seed"].code == 2
    assert "started with seed 0, it cannot go on with 5" in calls["other seed"].err


def test_without_a_directory_the_runs_name_says_what_it_is(calls, worldflux):
    assert (worldflux.cwd / "runs/toyworld-ci_CartPole-v1_3/model/config.json").is_file()


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ("unknown model", 2, "Did you mean 'untried'"),
        ("unknown env", 2, "Did you mean 'CartPole-v1'"),
        ("unknown setting", 2, "Did you mean 'explode_at'"),
        ("no threads", 2, "--threads is '0', expected auto or a number of at least 1"),
        ("not a setting", 2, "--set takes KEY=VALUE, got 'explode_at'"),
        ("no env", 2, "--env ID is missing"),
        ("no run", 2, "Did you mean 'a'"),
        ("runs", 2, "the runs in it are a"),
        ("resume nothing", 2, "holds no run"),
        ("resume nowhere", 2, "--run DIR"),
        ("device", 2, "gpu"),
        ("unknown planner", 2, "Did you mean 'cem'"),
        ("unknown planner option", 2, "Did you mean 'num_samples'"),
        ("planner option of another type", 2, "exploration"),
        ("gradient of classes", 2, "continuous"),
        ("horizon of no planner", 2, "--planner NAME"),
        ("imagine mp4", 2, ".gif or .webp"),
        ("too long", 2, "shorter horizon"),
    ],
)
def test_a_mistake_is_one_line_that_says_the_next_step(calls, call, code, words):
    result = calls[call]
    assert (result.code, result.out) == (code, "")
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in result.err


def test_a_number_out_of_range_is_a_usage_error(calls):
    assert calls["negative"].code == 2
    assert "--steps" in calls["negative"].err


def test_a_failed_training_is_a_problem_and_says_how_to_go_on(calls):
    result = calls["nan"]
    assert result.code == 1
    assert "worldflux train --run runs/nan --resume" in result.err
    assert "Traceback" not in result.err


def test_the_traceback_is_shown_to_those_who_ask(worldflux):
    result = worldflux("models", "info", "toyworld:cj", WORLDFLUX_DEBUG="1")
    assert result.code == 1
    assert "Traceback" in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_the_command_goes_on_and_exits_with_its_number(worldflux, number):
    run = f"runs/stopped-{number.name}"
    process = worldflux.start(*TRAIN, "--steps", "100000", "--device", "cpu", "--run", run, "--json")
    metrics = worldflux.cwd / run / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert json.loads(out) == {"run": run, "status": "preempted", "resume": f"worldflux train --run {run} --resume"}
    assert list((worldflux.cwd / run / "checkpoints").glob("step-*"))
    assert f"go on with worldflux train --run {run} --resume" in err
    assert "resume_from" not in err and "resume_run" not in err


def test_a_signal_while_the_command_starts_leaves_a_run_to_go_on_with(worldflux):
    process = worldflux.start(*TRAIN, *SHORT, "--run", "runs/early", WORLDFLUX_DEBUG="1")
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        pytest.skip("it cannot be seen when the command begins to listen")
    while not int(
        next(line for line in status.read_text().splitlines() if line.startswith("SigCgt")).split()[1], 16
    ) & (1 << (signal.SIGTERM - 1)):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "Go on with: worldflux train --run runs/early --resume" in out
    assert (worldflux.cwd / "runs/early/checkpoints/step-000000").is_dir()


@pytest.fixture(scope="module")
def held(calls, worldflux):
    """What is said of a finished run while another process, this one, trains in its directory."""
    run = ["--run", "runs/p"]
    several = {
        "again": [*TRAIN, *SHORT, *run],
        "resume": ["train", *run, "--resume", "--json"],
        "fewer": ["train", *run, "--resume", "--steps", "10"],
        "more": ["train", *run, "--resume", "--steps", "200"],
    }
    records = [worldflux.cwd / "runs/p" / name for name in ("metrics.jsonl", "evaluation.json", "run_manifest.json")]
    before = [record.read_bytes() for record in records]
    with RunLock(worldflux.cwd / "runs/p"):
        said = dict(zip(several, worldflux.several(*several.values()), strict=True))
    assert [record.read_bytes() for record in records] == before
    return said


@pytest.mark.parametrize("call", ["again", "more"])
def test_a_run_that_is_trained_by_another_process_is_refused_at_once(held, call):
    assert held[call].code == 2
    assert f"trained in by process {os.getpid()} on " in held[call].err


def test_a_finished_run_is_told_again_and_not_trained(held):
    assert (held["resume"].code, json.loads(held["resume"].out)["status"]) == (0, "finished")
    assert "is already finished: " in held["resume"].err


def test_a_run_does_not_go_on_to_where_it_has_been(held):
    assert held["fewer"].code == 2
    assert "environment steps already, it cannot go on to 10" in held["fewer"].err
