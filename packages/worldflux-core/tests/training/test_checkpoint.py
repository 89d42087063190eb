"""A checkpoint is whole or absent, and what came before it survives."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError
from worldflux.training import checkpoint, find_checkpoint, snapshot
from worldflux.training.checkpoint import checkpoints, read_manifest, write_checkpoint


def save(directory: Path, step: int, *, keep: int = 3, text: str = "content") -> Path:
    def write(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "data.txt").write_text(f"{text} of {step}")

    return write_checkpoint(directory, step=step, write=write, keep=keep)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_checkpoint_lists_its_files_with_sizes_and_hashes(tmp_path: Path) -> None:
    manifest = read_manifest(save(tmp_path, 3))
    assert manifest["step"] == 3
    assert set(manifest["files"]) == {"inner/data.txt"}
    assert manifest["files"]["inner/data.txt"]["bytes"] == len("content of 3")
    assert names(tmp_path) == {"step-000003", "latest"}


def test_the_oldest_go_only_after_the_new_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standing = []
    prune = checkpoint._prune
    monkeypatch.setattr(
        checkpoint, "_prune", lambda *args: (standing.append((tmp_path / "latest").read_text()), prune(*args))
    )
    for step in (1, 2, 10):
        save(tmp_path, step, keep=2)
    assert standing[-1] == "step-000010\n"
    assert names(tmp_path) == {"step-000002", "step-000010", "latest"}


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "manifest", "half a manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = save(tmp_path / "checkpoints", 1), save(tmp_path / "checkpoints", 2)
    file, manifest = bad / "inner" / "data.txt", bad / "manifest.json"
    {
        "truncated": lambda: file.write_text("conte"),
        "altered": lambda: file.write_text("c0ntent of 2"),
        "missing": file.unlink,
        "manifest": manifest.unlink,
        "half a manifest": lambda: manifest.write_text(manifest.read_text()[:40]),
    }[damage]()

    assert find_checkpoint(tmp_path) == good
    assert "step-000002 is damaged" in caplog.text
    with pytest.raises(CheckpointError, match="step-000002 is damaged"):
        find_checkpoint(bad)


def test_without_a_whole_checkpoint_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        find_checkpoint(tmp_path)
    (save(tmp_path / "checkpoints", 1) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="of 1 checkpoint in .* none is whole"):
        find_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_earlier_checkpoint_and_no_rest(tmp_path: Path) -> None:
    earlier = save(tmp_path, 1)

    def write(folder: Path) -> None:
        (folder / "half.bin").write_bytes(b"x" * 10)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CheckpointError, match=r"cannot save step 2.*No space left.*MB are free"):
        write_checkpoint(tmp_path, step=2, write=write, keep=1)
    assert names(tmp_path) == {"step-000001", "latest"}
    assert find_checkpoint(tmp_path) == earlier


def test_a_run_that_went_back_overwrites_its_own_future(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    again = save(tmp_path, 2, text="another future", keep=2)
    assert (again / "inner" / "data.txt").read_text() == "another future of 2"
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000002", "step-000001", "step-000003"]


def test_what_a_crash_left_unfinished_is_cleared_by_the_next_save(tmp_path: Path) -> None:
    (tmp_path / ".step-000001.tmp-abc").mkdir()
    save(tmp_path, 2)
    assert names(tmp_path) == {"step-000002", "latest"}


def test_a_writer_that_hits_the_systems_limit_is_a_checkpoint_error(toy, tmp_path: Path) -> None:
    """The real thing: the system refuses the write inside safetensors."""
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1))
    trainer.train(toy.NoiseSource())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        trainer.step = 2
        with pytest.raises(CheckpointError, match="cannot save step 2"):
            trainer.save_checkpoint()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path / "checkpoints") == {"step-000001", "latest"}


def test_a_disk_that_fills_up_in_training_stops_it_with_the_earlier_checkpoint_whole(
    toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = snapshot.save_arrays

    def full(*args, **options):
        if trainer.step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(snapshot, "save_arrays", full)
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path))
    with pytest.raises(CheckpointError, match="cannot save step 8"):
        trainer.train(toy.NoiseSource())
    assert names(tmp_path / "checkpoints") == {"step-000004", "latest"}
    manifest = json.loads((tmp_path / "run_manifest.json").read_text())
    assert (manifest["status"], manifest["step"]) == ("failed", 8)
    assert "No space left" in manifest["error"]

    monkeypatch.undo()
    again = toy.Trainer(toy.ToyModel(), toy.options(tmp_path))
    again.train(toy.NoiseSource(), resume_from=tmp_path)
    assert (again.status, again.step) == ("finished", 12)


def test_a_manifest_that_cannot_be_written_is_a_checkpoint_error(toy, tmp_path: Path, monkeypatch) -> None:
    trainer, real = toy.Trainer(toy.ToyModel(), toy.options(tmp_path)), Path.write_text

    def full(path, *args, **options):
        if trainer.step and "run_manifest" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CheckpointError, match=r"run_manifest.json.*No space left.*resume"):
        trainer.train(toy.NoiseSource())
    assert names(tmp_path / "checkpoints") == {"step-000004", "latest"}


def test_packed_state_comes_back_equal() -> None:
    from worldflux.training.packing import pack, unpack

    value = {
        "state": {0: {"step": torch.tensor(3.0), "mu": torch.arange(3)}, 1: (1, 2.5, None)},
        "text": ["a", True, float("inf")],
        "a.b": torch.ones(2),
        "a": {"b": torch.zeros(2)},
        "$tensor": 1,
        "empty": {},
    }
    tensors: dict[str, torch.Tensor] = {}
    tree = json.loads(json.dumps(pack(value, tensors, "x")))
    back = unpack(tree, tensors)
    assert str(back) == str(value)
    assert back["state"][0]["mu"].dtype == torch.int64


def test_what_cannot_be_written_without_pickle_is_refused_by_name() -> None:
    from worldflux.training.packing import pack

    with pytest.raises(CheckpointError, match=r"callbacks\.hook.*function"):
        pack({"hook": lambda: 1}, {}, "callbacks")


@pytest.mark.parametrize("state", [{"position": 3}, ({}, {"hook": print})])
def test_a_source_whose_state_cannot_be_written_is_named(toy, tmp_path: Path, state: object) -> None:
    class Odd(toy.NoiseSource):
        def state_dict(self):
            return state

    with pytest.raises(CheckpointError, match=r"Odd\.state_dict\(\) must return a pair"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(Odd())


def test_a_source_that_keeps_text_comes_back(toy, tmp_path: Path) -> None:
    class Named(toy.NoiseSource):
        names = np.array(["a", "bc"])

        def state_dict(self):
            return {"names": self.names}, {}

        def load_state_dict(self, arrays, meta) -> None:
            self.names = arrays["names"]

    toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(Named())
    again = Named()
    again.names = None
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=2))
    trainer.train(again, resume_from=tmp_path)
    assert (trainer.step, again.names.tolist()) == (2, ["a", "bc"])


@pytest.mark.parametrize("state", [({"a": np.array([None])}, {}), ({"a": np.zeros(1, "V4")}, {}), ({}, {"n": 10**200})])
def test_a_source_whose_state_could_not_be_read_back_is_named(toy, tmp_path: Path, state: object) -> None:
    class Odd(toy.NoiseSource):
        def state_dict(self):
            return state

    with pytest.raises(CheckpointError, match=r"Odd\.state_dict\(\).*(array 'a' is (object|\|V4)|201 digits)"):
        toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1)).train(Odd())


def test_a_state_that_could_not_be_read_back_is_not_written(toy, tmp_path: Path) -> None:
    class Counter(toy.Callback):
        count = 10**20

        def state_dict(self):
            return {"count": self.count}

    counter = Counter()
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1), callbacks=[counter])
    trainer.train(toy.NoiseSource())
    counter.count = 10**200
    with pytest.raises(CheckpointError, match="201 digits"):
        write_checkpoint(tmp_path / "c", step=2, write=lambda folder: snapshot.write_snapshot(folder, trainer), keep=3)
    assert names(tmp_path / "c") == set()


def test_a_large_manifest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = save(tmp_path, 1)
    monkeypatch.setattr("worldflux.files.MAX_BYTES", 10)
    assert read_manifest(whole)["step"] == 1


def test_nothing_in_a_checkpoint_is_a_pickle(toy, tmp_path: Path) -> None:
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=1))
    trainer.train(toy.SOURCES["environment"](trainer.model, trainer.config))
    files = [path for path in trainer.last_checkpoint.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors", ".npy"}
    for path in files:
        assert path.read_bytes()[:1] != b"\x80"
        assert path.read_bytes()[:2] != b"PK"


def test_a_reader_of_files_sees_old_or_new(tmp_path: Path) -> None:
    """Killed while it writes, a process leaves the earlier text."""
    code = (
        "import os, sys, pathlib; from worldflux import files\n"
        "path = pathlib.Path(sys.argv[1]); files.write_text(path, 'old')\n"
        "files.sync = lambda p: os._exit(9)\n"
        "files.write_text(path, 'new')\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "f")], check=False)
    assert result.returncode == 9
    assert (tmp_path / "f").read_text() == "old"
