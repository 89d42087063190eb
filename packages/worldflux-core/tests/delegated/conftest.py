"""Two small programs that speak the command lines and metrics files of the public ones, and their adapters."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.delegated import Job, MetricsSource, OfficialBackendHandle, Program, SubprocessBackend, launch

# Flags, a folder to log into, metrics.jsonl and checkpoints with a file "done". What it does is its task's name.
FLAGS_PROGRAM = """
import json, os, pathlib, signal, subprocess, sys, time

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
logdir, task = pathlib.Path(flags["--logdir"]), flags["--task"]
ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
sleep = "import signal, sys, time; " + ignore * (task == "stubborn") + "; print(flush=True); time.sleep(120)"


def record(**values):
    with (logdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(values) + "\\n")


def checkpoint(name, whole=True):
    (logdir / "ckpt" / name).mkdir(parents=True)
    (logdir / "ckpt" / name / "agent.pkl").write_text("weights")
    if whole:
        (logdir / "ckpt" / name / "done").touch()


def child():
    started = subprocess.Popen([sys.executable, "-S", "-c", sleep], stdout=subprocess.PIPE)
    started.stdout.readline()
    return started.pid


def main():
    print("Logdir", logdir, os.environ.get("TOY_COLOUR"), os.environ.get("PYTHONPATH"))
    record(step=0, **{"usage/ram": 1.0})
    if task == "fail":
        raise RuntimeError("no such environment")
    if task in ("stubborn", "patient", "leaves"):
        pids = [os.getpid(), child()]
        if task == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (logdir / "pids.tmp").write_text(json.dumps(pids))
        (logdir / "pids.tmp").rename(logdir / "pids.json")
        if task == "leaves":
            return
        time.sleep(120)
    if task == "polite":
        def save(*_):
            checkpoint("saved")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        (logdir / "ready").touch()
        time.sleep(120)
    if task == "await":
        while not (logdir / "go").exists():
            time.sleep(0.02)
    for step in range(10, int(flags["--run.steps"]) + 1, 10):
        record(step=step, **{"episode/score": step / 10, "episode/length": 10.0})
        record(step=step, **{"train/opt/updates": step / 2 - 0.4, "train/opt/loss": 0 * 1e999, "train/loss/rew": 0.5})
        checkpoint(f"{step:04}")
    checkpoint("unfinished", whole=False)
    print("done after", flags["--run.steps"])


main()
"""

# key=value arguments, a results folder below the working directory, eval.csv, and training metrics on standard output.
HYDRA_PROGRAM = """
import pathlib, sys, time

settings = dict(item.split("=", 1) for item in sys.argv[1:])
work = pathlib.Path("logs") / settings["task"] / settings["seed"]
(work / "models").mkdir(parents=True)
with (work / "eval.csv").open("w") as file:
    file.write("step,episode_reward\\n")
    for step in range(0, int(settings["steps"]) + 1, 500):
        file.write(f"{step},{step / 10}\\n")
        file.flush()
        print(f"\\033[34m train\\033[0m   E: 1   I: {step:,}   R: {step / 20}   T: 0:00:05", flush=True)
        time.sleep(0.02)
(work / "models" / "final.pt").write_text("weights")
"""


class FlagsBackend(SubprocessBackend):
    id = "toy_flags"
    origin = "https://example.org/toy"
    python_variable, checkout_variable = "WORLDFLUX_TOY_PYTHON", "WORLDFLUX_TOY_CHECKOUT"
    checkout_files = ("toy/main.py",)
    modules = ("json", "concurrent.futures")

    def program(self, request):
        if request.task == "impossible":
            raise ConfigurationError("no such task")
        argv = [str(request.checkout / "toy/main.py"), "--logdir", str(request.folder), "--task", request.task]
        argv += ["--run.steps", str(request.env_steps or 20)]
        for name, value in {**request.training, **request.options}.items():
            argv += [f"--{name}", str(value)]
        rename = {"episode/score": "episode/return", "train/": "", "train/opt/loss": "loss", "usage/": None}
        metrics = MetricsSource("metrics.jsonl", env_steps="step", step="train/opt/updates", rename=rename)
        return Program(
            tuple(argv), metrics=(metrics,), checkpoints="ckpt/*", complete="done", env={"TOY_COLOUR": "red"}
        )


class HydraBackend(SubprocessBackend):
    id = "toy_hydra"
    origin = "https://example.org/toy"
    python_variable, checkout_variable = "WORLDFLUX_TOY_PYTHON", "WORLDFLUX_TOY_CHECKOUT"
    checkout_files = ("train.py",)

    def program(self, request):
        seed = request.training.get("seed", 1)
        settings = {"task": request.task, "steps": request.env_steps, "seed": seed, **request.options}
        work = f"logs/{request.task}/{seed}"
        return Program(
            (str(request.checkout / "train.py"), *(f"{name}={value}" for name, value in settings.items())),
            metrics=(
                MetricsSource(f"{work}/eval.csv", "csv", env_steps="step", rename={"episode_reward": "eval/return"}),
                MetricsSource("", "lines", r"train.* R: (?P<reward>[\d.]+)", rename={"reward": "episode/return"}),
            ),
            checkpoints=f"{work}/models/*.pt",
        )


@pytest.fixture
def checkout(tmp_path):
    """A checkout of both programs."""
    folder = tmp_path / "checkout"
    (folder / "toy").mkdir(parents=True)
    (folder / "toy/main.py").write_text(FLAGS_PROGRAM)
    (folder / "train.py").write_text(HYDRA_PROGRAM)
    return folder


@pytest.fixture
def backend():
    return FlagsBackend()


@pytest.fixture
def hydra():
    return HydraBackend()


@pytest.fixture
def handle():
    return OfficialBackendHandle("toy_flags", "toy:official", {"backend_profile": "xl", "config": {"width": 3}})


@pytest.fixture
def submit(tmp_path, checkout, backend, handle):
    """Starts a job; what still runs of it afterwards is ended."""
    jobs = []

    def start(task="finish", *, using=backend, run_dir=tmp_path / "run", **options):
        job = launch(
            using, handle, run_dir=run_dir, task=task, **{"python": sys.executable, "checkout": checkout, **options}
        )
        jobs.append(job)
        return job

    yield start
    for job in jobs:
        job.cancel(0)


@pytest.fixture
def eventually():
    """Waits until something is true, and returns what it was."""

    def wait(condition, seconds=240.0):
        until = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < until, "it never happened"
            time.sleep(0.02)
        return value

    return wait


@pytest.fixture
def ends(eventually):
    """Asserts that a process ends."""

    def gone(pid):
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    return lambda pid: eventually(lambda: gone(pid))


@pytest.fixture
def kill():
    return lambda pid: os.kill(pid, signal.SIGKILL)


@pytest.fixture
def reopened():
    """The job as another process would see it."""
    return lambda job: Job.open(job.run_dir)
