"""One directory, one run."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worldflux import files
from worldflux.core.errors import CheckpointError, ConfigurationError
from worldflux.training.lock import NAME, RunLock

HOLDER = """
import os, sys, time
from worldflux.training.lock import RunLock
lock = RunLock(sys.argv[1])
lock.__enter__()
if os.fork() == 0:  # a worker that outlives its parent
    print("held", flush=True)
time.sleep(60)
"""


def test_a_second_training_is_refused_by_who_holds_the_directory_and_writes_nothing(toy, tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ConfigurationError, match=f"trained in by process {os.getpid()} on .* since .*: wait until"):
            toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "run")).train(toy.NoiseSource())
        assert sorted(tmp_path.rglob("*")) == before


def test_a_trainer_holds_its_directory_while_it_trains_and_may_train_again(toy, tmp_path: Path) -> None:
    class Second(toy.Callback):
        def on_step_end(self, trainer) -> None:
            with pytest.raises(ConfigurationError, match="is being trained in by"):
                toy.Trainer(toy.ToyModel(), toy.options(tmp_path)).train(toy.NoiseSource(), resume_from=tmp_path)

    trainer, source = toy.Trainer(toy.ToyModel(), toy.options(tmp_path), [Second()]), toy.NoiseSource()
    trainer.train(source, 2)
    trainer.train(source, 4)
    assert trainer.step == 4
    assert not (tmp_path / NAME).exists()


def test_the_system_takes_the_lock_back_from_the_dead_whose_workers_live_on(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        assert json.loads((tmp_path / NAME).read_text())["pid"] == holder.pid
        with pytest.raises(ConfigurationError, match=f"process {holder.pid}"), RunLock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        with RunLock(tmp_path):
            assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


def test_a_forked_worker_does_not_give_the_lock_back(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        worker = multiprocessing.get_context("fork").Process(target=lock.__exit__)
        worker.start()
        worker.join()
        with pytest.raises(ConfigurationError), RunLock(tmp_path):
            pass


def test_a_directory_that_nothing_came_of_is_gone_again(tmp_path: Path) -> None:
    with RunLock(tmp_path / "runs" / "a"):
        assert (tmp_path / "runs" / "a").is_dir()
    assert not (tmp_path / "runs").exists()


def test_what_a_killed_process_was_writing_is_swept_up(toy, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    with files.replacing(tmp_path / "config.json") as (stage,):
        stage.write_text("{}")
        dead = stage.with_name(stage.name.replace(f"-{os.getpid()}-", f"-{process.pid}-"))
        for path in (dead, tmp_path / ".somebodys"):
            path.write_text("half of it")
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(toy.NoiseSource())
        assert not dead.exists() and stage.exists() and (tmp_path / ".somebodys").exists()


def test_a_lock_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / NAME).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(CheckpointError, match="cannot make a run in"), RunLock(tmp_path):
        pass
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_file_system_without_locks_is_said_and_trained_on(tmp_path: Path, monkeypatch, caplog) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: object) -> None:
        raise OSError("Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with RunLock(tmp_path):
        assert "no lock keeps another training out" in caplog.text


def test_a_holder_that_cannot_be_read_is_a_holder(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / NAME).write_text('{"pid": "\x1b[2J"')
        with pytest.raises(ConfigurationError, match="trained in by another training: wait"), RunLock(tmp_path):
            pass
