"""Whatever was done to the files of a run, the newest whole checkpoint is found, and what is damaged is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from worldflux.core.errors import CheckpointError
from worldflux.files import sha256
from worldflux.training import find_checkpoint
from worldflux.training.checkpoint import checkpoints, read_manifest, write_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for step in (10, 20):
        write_checkpoint(
            tmp_path / "checkpoints", step=step, write=lambda folder: (folder / "x").write_bytes(b"abc"), keep=3
        )
    return tmp_path


def manifest(**changes: object) -> bytes:
    return json.dumps({"format": "worldflux.checkpoint", "version": 1, "step": 20, **changes}).encode()


MANIFESTS = {
    "no files": manifest(),
    "files in a list": manifest(files=["x"]),
    "a file described by a list": manifest(files={"x": [3]}),
    "a file without its hash": manifest(files={"x": {"bytes": 3}}),
    "a file of another kind of size": manifest(files={"x": {"bytes": "3", "sha256": "0"}}),
    "a hash that is a list": manifest(files={"x": {"bytes": 3, "sha256": ["0"]}}),
    "a file above": manifest(files={"../step-000010/x": {"bytes": 3, "sha256": "0"}}),
    "a file elsewhere": manifest(files={"/etc/hostname": {"bytes": 3, "sha256": "0"}}),
    "a folder": manifest(files={".": {"bytes": 3, "sha256": "0"}}),
    "a name that no system has": manifest(files={"x\0": {"bytes": 3, "sha256": "0"}}),
    "another format": manifest(format="zip", files={}),
    "no version": b'{"format": "worldflux.checkpoint", "files": {}}',
    "depth": b"[" * 200_000,
    "a list": b"[1]",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_a_damaged_manifest_does_not_hide_the_checkpoint_before(run: Path, what: str, caplog) -> None:
    (run / "checkpoints/step-000020/manifest.json").write_bytes(MANIFESTS[what])
    assert find_checkpoint(run).name == "step-000010"
    assert "step-000020" in caplog.text and "taking the one before it" in caplog.text
    with pytest.raises(CheckpointError, match="step-000020"):
        find_checkpoint(run / "checkpoints/step-000020")


def test_a_file_that_is_a_link_out_of_the_checkpoint_is_refused(run: Path) -> None:
    newest = run / "checkpoints/step-000020"
    (newest / "x").unlink()
    (newest / "x").symlink_to("../step-000010/x")
    with pytest.raises(CheckpointError, match="is damaged: x is not in it"):
        read_manifest(newest)


@pytest.mark.parametrize("name", ["manifest.json", "x"])
def test_a_pipe_is_not_waited_for(run: Path, name: str) -> None:
    (run / "checkpoints/step-000020" / name).unlink()
    os.mkfifo(run / "checkpoints/step-000020" / name)
    assert find_checkpoint(run).name == "step-000010"


LATEST = {
    "no text": b"\xf3tep-000020\n",
    "a long number": b"step-" + b"9" * 5000,
    "another name": b"newest\n",
    "digits of another script": "step-\u0663".encode(),
    "nothing": b"",
    "megabytes": b"step-" * 1_000_000,
    "a checkpoint that is not there": b"step-000030\n",
    "a checkpoint elsewhere": b"../../step-000010\n",
}


@pytest.mark.parametrize("what", LATEST)
def test_a_damaged_latest_does_not_hide_the_newest_checkpoint(run: Path, what: str) -> None:
    (run / "checkpoints/latest").write_bytes(LATEST[what])
    assert find_checkpoint(run).name == "step-000020"


def test_a_latest_that_is_a_pipe_or_a_folder_does_not_hide_the_newest_checkpoint(run: Path) -> None:
    latest = run / "checkpoints/latest"
    latest.unlink()
    os.mkfifo(latest)
    assert find_checkpoint(run).name == "step-000020"
    latest.unlink()
    latest.mkdir()
    assert find_checkpoint(run).name == "step-000020"


def test_folders_whose_number_is_none_are_passed_over(run: Path) -> None:
    for name in ("step-", "step-x", "step-\u0663", "step-" + "9" * 200):
        (run / "checkpoints" / name).mkdir()
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["step-000020", "step-000010"]


@pytest.mark.parametrize("name", ["step-5", "step-000100"])
def test_a_run_may_be_called_like_a_checkpoint(run: Path, name: str) -> None:
    other = run / name
    (run / "checkpoints").rename(other.joinpath("checkpoints")) if other.mkdir() is None else None
    assert find_checkpoint(other) == other / "checkpoints/step-000020"
    assert find_checkpoint(other / "checkpoints/step-000010") == other / "checkpoints/step-000010"


def test_a_kill_while_a_step_is_saved_again_leaves_the_step(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if target.name == "step-000020":
            raise Killed
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Killed):
        write_checkpoint(run / "checkpoints", step=20, write=lambda folder: None, keep=1)
    assert not (run / "checkpoints/step-000020").exists()
    assert (find_checkpoint(run) / "x").read_bytes() == b"abc"
    assert read_manifest(find_checkpoint(run))["step"] == 20


# --- what is in the files: a checkpoint whose hashes agree may still be a stranger's ---


@pytest.fixture
def trained(toy, tmp_path: Path):
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path, total_steps=2))
    trainer.train(toy.NoiseSource())
    return tmp_path, trainer.last_checkpoint


def vouch(folder: Path) -> None:
    """Write a manifest that agrees with the files as they are."""
    page = json.loads((folder / "manifest.json").read_text())
    for name in page["files"]:
        page["files"][name] = {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
    (folder / "manifest.json").write_text(json.dumps(page))


def without(name: str):
    return lambda state: state.pop(name)


STATES = {
    **{f"no {name}": without(name) for name in ("step", "model", "optimizer", "rng", "meter", "callbacks", "source")},
    "steps in text": lambda state: state.update(step="2"),
    "a negative step": lambda state: state.update(step=-1),
    "no number of seconds": lambda state: state.update(seconds=float("nan")),
    "a model in a list": lambda state: state.update(model=[]),
    "an optimizer in a list": lambda state: state.update(optimizer=[]),
    "an optimizer without state": lambda state: state["optimizer"].pop("state"),
    "callbacks of numbers": lambda state: state.update(callbacks=[3]),
    "a generator that is none": lambda state: state.update(rng={"$tuple": 3}),
    "a tensor that is a list": lambda state: state.update(rng={"$tensor": ["x"]}),
    "items that are no pairs": lambda state: state.update(meter={"$items": [3]}),
}


@pytest.mark.parametrize("what", STATES)
def test_a_state_of_another_kind_is_a_checkpoint_error(toy, trained, what: str) -> None:
    run, folder = trained
    state = json.loads((folder / "state.json").read_text())
    STATES[what](state)
    (folder / "state.json").write_text(json.dumps(state))
    vouch(folder)
    with pytest.raises(CheckpointError):
        toy.Trainer(toy.ToyModel(), toy.options(run)).train(toy.NoiseSource(), resume_from=folder)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.float16])
def test_numbers_of_another_kind_are_refused_and_not_cast(toy, trained, file: str, dtype: torch.dtype) -> None:
    run, folder = trained
    tensors = load_file(folder / file)
    name = next(name for name, value in tensors.items() if value.ndim)
    save_file({**tensors, name: tensors[name].to(dtype)}, folder / file)
    vouch(folder)
    with pytest.raises(CheckpointError, match=str(dtype)):
        toy.Trainer(toy.ToyModel(), toy.options(run)).train(toy.NoiseSource(), resume_from=folder)


def test_a_file_that_the_manifest_does_not_vouch_for_is_not_read(toy, trained) -> None:
    run, folder = trained
    page = json.loads((folder / "manifest.json").read_text())
    page["files"].pop("state.json")
    (folder / "manifest.json").write_text(json.dumps(page))
    with pytest.raises(CheckpointError, match="does not name state.json"):
        toy.Trainer(toy.ToyModel(), toy.options(run)).train(toy.NoiseSource(), resume_from=folder)
