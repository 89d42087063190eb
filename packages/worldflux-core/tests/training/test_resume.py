"""N steps are k steps, a kill, and N - k more, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from worldflux.training import find_checkpoint

SCRIPT = Path(__file__).parent / "toy.py"


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), str(directory), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def contents(checkpoint: Path) -> dict[str, object]:
    """Everything a checkpoint says about the future: file bytes, less wall time and paths."""
    state = json.loads((checkpoint / "state.json").read_text())
    del state["seconds"], state["config"]
    files = {
        str(path.relative_to(checkpoint)): path.read_bytes()
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name not in ("state.json", "manifest.json")
    }
    return {"state": state, **files}


@pytest.mark.parametrize("source", ["noise", "environment", "iterable"])
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(toy, tmp_path: Path, source: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    toy.main([str(whole), "--source", source])

    killed = run(broken, "--source", source, "--signal", "SIGKILL", "--at", "7")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (broken / "checkpoints" / "latest").read_text().strip() == "step-000004"
    toy.main([str(broken), "--source", source, "--resume"])

    expected, got = (contents(path / "checkpoints" / "step-000012") for path in (whole, broken))
    assert expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []
    lines = [
        [{k: v for k, v in json.loads(line).items() if k not in ("time", "updates_per_second")} for line in file]
        for file in ((path / "metrics.jsonl").read_text().splitlines() for path in (whole, broken))
    ]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[1]] == [3, 6, 9, 12]


def test_a_different_history_gives_different_parameters(toy, tmp_path: Path) -> None:
    """The comparison above can fail: one step more, and the parameters are others."""
    a, b = (
        toy.main([str(tmp_path / steps), "--steps", steps]).last_checkpoint / "model.safetensors"
        for steps in ("12", "11")
    )
    assert not load_file(a)["head.weight"].equal(load_file(b)["head.weight"])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_at_the_next_step_boundary_says_how_to_resume_and_the_run_goes_on(
    toy, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    stopped = toy.main([str(tmp_path), "--signal", name, "--at", "6"])

    assert "resume" in caplog.text and str(tmp_path) in caplog.text
    manifest = json.loads((tmp_path / "run_manifest.json").read_text())
    assert (manifest["status"], manifest["step"], manifest["stop_reason"]) == ("preempted", 6, name)
    assert stopped.last_checkpoint == tmp_path / "checkpoints" / "step-000006"

    assert toy.main([str(tmp_path), "--resume"]).status == "finished"
    manifest = json.loads((tmp_path / "run_manifest.json").read_text())
    assert (manifest["status"], manifest["step"]) == ("finished", 12)


def test_signals_are_the_callers_again_afterwards(toy, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1))
    trainer.train(toy.NoiseSource())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_interrupts_at_once(toy, tmp_path: Path) -> None:
    class Impatient(toy.Callback):
        def on_step_begin(self, trainer) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            toy.time.sleep(0.05)

    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path), [Impatient()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train(toy.NoiseSource())
    assert trainer.step == 0
    assert json.loads((tmp_path / "run_manifest.json").read_text())["status"] == "failed"


def test_a_new_run_does_not_start_over_an_old_ones_checkpoints(toy, tmp_path: Path) -> None:
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(toy.NoiseSource())
    with pytest.raises(ValueError, match="already holds a run.*resume_from"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(toy.NoiseSource())


def test_a_run_that_begins_where_another_ended_has_a_checkpoint_of_its_own(toy, tmp_path: Path) -> None:
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "old")).train(toy.items())
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "new")).train(toy.items(), resume_from=tmp_path / "old")
    assert find_checkpoint(tmp_path / "new").name == find_checkpoint(tmp_path / "old").name


def test_a_checkpoint_of_another_model_is_refused(toy, tmp_path: Path) -> None:
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(toy.NoiseSource())
    other = toy.ToyModel()
    other.head = toy.nn.Linear(8, 4)
    with pytest.raises(ValueError, match="another model"):
        toy.Trainer(other, toy.options(tmp_path)).train(toy.NoiseSource(), resume_from=tmp_path)
