"""Jobs end as their programs end, are seen by any process, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.delegated import Job
from worldflux.delegated.files import is_locked

HERE = Path(__file__).parent


def records(job):
    return [json.loads(line) for line in job.metrics_path.read_text().splitlines()]


# --- ending by themselves ---------------------------------------------------------------------------------------------


def test_a_finished_job_has_its_metrics_in_our_format(submit):
    job = submit(env_steps=20)
    status = job.wait(240)
    assert (status.state, status.exit_code, status.message) == ("finished", 0, "")
    assert (status.step, status.env_steps) == (10, 20)
    found = records(job)
    assert [list(record)[:3] for record in found] == [["step", "env_steps", "time"]] * 5
    times = [record.pop("time") for record in found]
    assert times == sorted(times)
    assert found[0] == {"step": 0, "env_steps": 0}
    assert found[1] == {"step": 0, "env_steps": 10, "episode/return": 1.0, "episode/length": 10.0}
    assert found[2] == {"step": 5, "env_steps": 10, "loss": "nan", "loss/rew": 0.5}


def test_the_checkpoint_is_the_newest_whole_one(submit):
    job = submit(env_steps=20)
    assert job.wait(240).checkpoint == job.folder / "ckpt" / "0020"


def test_a_failed_job_says_why(submit):
    status = submit("fail").wait(240)
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "exit code 1: RuntimeError: no such environment" in status.message


def test_a_program_that_is_killed_is_a_failed_job(submit, kill):
    job = submit("await")
    kill(job.status().pid)
    assert "signal SIGKILL" in (status := job.wait(240)).message
    assert (status.state, status.exit_code) == ("failed", -signal.SIGKILL)


def test_processes_that_a_program_leaves_behind_are_ended(submit, ends):
    job = submit("leaves")
    assert job.wait(240).state == "finished"
    for pid in json.loads((job.folder / "pids.json").read_text()):
        ends(pid)


def test_logs_hold_what_the_program_prints(submit):
    job = submit(env_steps=10)
    job.wait(240)
    assert job.logs().startswith("Logdir")
    assert job.logs(1) == "done after 10\n"
    assert job.logs(0) == ""


def test_the_other_style_of_program_is_followed_too(submit, hydra):
    job = submit("dog-run", using=hydra, env_steps=1000, training={"seed": 7})
    status = job.wait(240)
    assert status.state == "finished", status.message
    assert status.checkpoint == job.folder / "logs/dog-run/7/models/final.pt"
    found = records(job)
    assert [(r["env_steps"], r["eval/return"]) for r in found if "eval/return" in r] == [(0, 0), (500, 50), (1000, 100)]
    assert [r["episode/return"] for r in found if "episode/return" in r] == [0.0, 25.0, 50.0]


# --- outliving, following ---------------------------------------------------------------------------------------------

SUBMITTER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
handle = toys.OfficialBackendHandle("toy_flags", "toy:official")
toys.launch(toys.FlagsBackend(), handle, run_dir="run", task="await", python=sys.executable, checkout=sys.argv[2])
print("submitted", flush=True)
input()
"""


def test_a_job_survives_the_process_that_submitted_it(tmp_path, checkout, ends):
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER, str(HERE / "conftest.py"), str(checkout)],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with submitter:
        assert submitter.stdout.readline() == "submitted\n"
        os.killpg(submitter.pid, signal.SIGKILL)  # as a closed terminal does, only harder
    job = Job.open(tmp_path / "run")
    assert job.status().state == "running"
    (job.folder / "go").touch()
    assert job.wait(240).state == "finished"
    assert len(records(job)) == 5
    ends(json.loads(job.status_path.read_text())["supervisor"])


def test_metrics_arrive_while_the_program_runs(submit, eventually):
    job = submit("await")
    assert eventually(lambda: job.metrics_path.exists() and records(job))[0]["env_steps"] == 0
    eventually(lambda: job.status().env_steps == 0)
    assert job.status().state == "running"
    assert not job.status().is_over


def test_the_description_says_how_to_run_it_again(submit, checkout):
    job = submit(env_steps=10, training={"seed": 3}, options={"run.envs": 2}, env={"CUDA_VISIBLE_DEVICES": "1"})
    about = job.description
    expected = [sys.executable, str(checkout / "toy/main.py"), "--logdir", str(job.folder), "--task", "finish"]
    assert about["program"]["argv"] == [*expected, "--run.steps", "10", "--seed", "3", "--run.envs", "2"]
    assert about["program"]["env"] == {"TOY_COLOUR": "red", "CUDA_VISIBLE_DEVICES": "1"}
    assert about["request"]["config"] == {"width": 3}
    assert about["python"] == sys.version.split()[0]


def test_the_programs_interpreter_is_not_led_to_our_packages(submit, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    job = submit(env_steps=10)
    job.wait(240)
    assert job.logs().splitlines()[0].endswith("red None")


def test_a_folder_without_a_job_is_no_job(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no delegated job"):
        Job.open(tmp_path)


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_a_group_that_ignores_being_told_to_end_is_killed_whole(submit, reopened, eventually, ends):
    job = submit("stubborn")
    eventually((job.folder / "pids.json").exists)
    status = reopened(job).cancel(0.3)
    assert status.state == "cancelled"
    assert "had to be killed" in status.message
    for pid in json.loads((job.folder / "pids.json").read_text()):
        ends(pid)


def test_a_program_has_time_to_save_when_it_is_cancelled(submit, eventually):
    job = submit("polite")
    eventually((job.folder / "ready").exists)
    status = job.cancel(200)
    assert (status.state, status.exit_code) == ("cancelled", 0)
    assert "killed" not in status.message
    assert status.checkpoint == job.folder / "ckpt/saved"


def test_a_supervisor_told_to_end_cancels_its_program(submit, eventually):
    job = submit("polite")
    eventually((job.folder / "ready").exists)
    os.kill(json.loads(job.status_path.read_text())["supervisor"], signal.SIGTERM)
    assert job.wait(240).state == "cancelled"


def test_cancelling_a_job_that_is_over_changes_nothing(submit):
    job = submit(env_steps=10)
    before = job.wait(240)
    assert job.cancel() == before
    assert job.status() == before


# --- a supervisor that is gone ----------------------------------------------------------------------------------------


def test_a_job_without_its_supervisor_is_lost_and_can_still_be_cancelled(submit, eventually, ends, kill):
    job = submit("patient")
    eventually((job.folder / "pids.json").exists)
    kill(json.loads(job.status_path.read_text())["supervisor"])
    status = eventually(lambda: (now := job.status()).is_over and now)
    assert status.state == "lost"
    assert "cancel() ends it" in status.message
    assert job.cancel(5).state == "cancelled"
    for pid in json.loads((job.folder / "pids.json").read_text()):
        ends(pid)


def test_a_process_that_has_a_lost_jobs_number_is_left_alone(submit, eventually):
    job = submit("finish")
    job.wait(240)
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(120)"], start_new_session=True)
    try:
        content = json.loads(job.status_path.read_text())
        content |= {"state": "running", "pid": other.pid, "birth": "another time"}
        eventually(lambda: not is_locked(job.lock_path))
        job.status_path.write_text(json.dumps(content))
        assert job.status().state == "lost"
        assert job.cancel(0).state == "lost"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


# --- one job a directory ----------------------------------------------------------------------------------------------


def test_a_directory_takes_one_job(submit):
    job = submit(env_steps=10)
    with pytest.raises(ConfigurationError, match="already holds a job.*choose another output_dir"):
        submit(env_steps=10)
    assert job.wait(240).state == "finished"
    with pytest.raises(ConfigurationError, match=r"already holds a job \(finished\)"):
        submit(env_steps=10)


def test_of_two_that_submit_at_once_one_is_refused(submit):
    def attempt(_):
        try:
            return submit("await")
        except ConfigurationError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(attempt, range(2))
    refused = first if isinstance(first, str) else second
    assert {type(first), type(second)} == {Job, str}
    assert "already holds a job" in refused or "another process" in refused


@pytest.mark.parametrize("name", ["run_manifest.json", "metrics.jsonl", "checkpoints"])
def test_a_directory_of_our_own_training_is_refused(submit, tmp_path, name):
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=f"already holds a run.*{name}"):
        submit()


def test_the_supervisor_imports_no_torch():
    code = "import worldflux.delegated.supervisor, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
