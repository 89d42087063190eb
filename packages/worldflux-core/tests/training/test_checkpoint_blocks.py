"""A checkpoint of a replay costs what is new in it, and stands by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import CheckpointError
from worldflux.data import Replay
from worldflux.data.replay import blocks
from worldflux.data.storage import load_arrays
from worldflux.training import checkpoint, find_checkpoint, snapshot
from worldflux.training.checkpoint import read_manifest

PLACE = "replay/blocks"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1440)  # twelve rows of both streams


def train(toy, directory: Path, steps: int, *, resume: Path | None = None, capacity: int = 400, **changes):
    model, config = toy.ToyModel(), toy.options(directory, total_steps=steps, **changes)
    collect = toy.CollectConfig(replay_ratio=2.0, replay_capacity=capacity, min_rows=60)
    source = toy.environment_source(
        model, toy.make_env(toy.Walk, num_envs=2), training=config, collect=collect, policy=toy.Pusher(model)
    )
    trainer = toy.Trainer(model, config)
    trainer.train(source, resume_from=resume)
    return trainer


def inodes(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in (path / PLACE).iterdir()}


def everything(path: Path) -> dict[str, bytes]:
    """Every file of a checkpoint but those with times in them."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.name: file.read_bytes() for file in files if file.name not in ("state.json", "manifest.json")}


def test_what_did_not_change_is_the_same_file_and_is_not_read_again(toy, tmp_path: Path, monkeypatch) -> None:
    hashed, real = [], checkpoint.sha256
    monkeypatch.setattr(checkpoint, "sha256", lambda file: hashed.append(file.name) or real(file))
    trainer = train(toy, tmp_path, 8, save_interval=4)
    one, two = (inodes(tmp_path / f"checkpoints/step-{step:06d}") for step in (4, 8))
    shared = {name for name in one if two.get(name) == one[name]}
    assert len(shared) >= 2  # of the four blocks of rows that were sealed; latents were written back
    assert all(hashed.count(f"{name}") == 1 for name in one)
    assert read_manifest(trainer.last_checkpoint)["files"].keys() >= {f"{PLACE}/{name}" for name in two}


def test_the_oldest_may_go_and_the_newest_stays_whole(toy, tmp_path: Path) -> None:
    whole = train(toy, tmp_path, 12, save_interval=2, keep_checkpoints=1)
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "checkpoints")] == ["step-000012"]
    assert find_checkpoint(tmp_path) == whole.last_checkpoint


@pytest.mark.parametrize("capacity", [400, 80], ids=["room", "a ring that turns"])
def test_a_run_that_goes_on_from_blocks_ends_where_an_untouched_one_does(toy, tmp_path: Path, capacity: int) -> None:
    options = {"capacity": capacity, "save_interval": 3}
    whole = train(toy, tmp_path / "whole", 14, **options)
    train(toy, tmp_path / "part", 7, **options)
    resumed = train(toy, tmp_path / "part", 14, resume=tmp_path / "part", **options)
    assert everything(resumed.last_checkpoint) == everything(whole.last_checkpoint)
    again = train(toy, tmp_path / "other", 14, resume=tmp_path / "part/checkpoints/step-000012", **options)
    assert everything(again.last_checkpoint) == everything(whole.last_checkpoint)


def test_a_damaged_block_is_named_with_its_checkpoint_and_the_one_before_is_taken(
    toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = train(toy, tmp_path, 8, save_interval=4).last_checkpoint
    before = tmp_path / "checkpoints/step-000004"
    name = min(inodes(newest).keys() - inodes(before).keys())
    file = newest / PLACE / name
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    assert find_checkpoint(tmp_path) == before
    assert f"step-000008 is damaged: {PLACE}/{name} was altered after it was saved" in caplog.text


def test_a_block_of_several_checkpoints_is_damaged_in_each_and_each_is_named(toy, tmp_path: Path, caplog) -> None:
    newest = train(toy, tmp_path, 8, save_interval=4).last_checkpoint
    steps = (0, 4, 8)
    name = min(set.intersection(*(set(inodes(tmp_path / f"checkpoints/step-{step:06d}")) for step in steps)))
    file = newest / PLACE / name
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    with pytest.raises(CheckpointError, match="of 3 checkpoints in .* none is whole"):
        find_checkpoint(tmp_path)
    assert all(f"step-{step:06d} is damaged: {PLACE}/{name}" in caplog.text for step in steps)


def test_a_copied_checkpoint_stands_by_itself(toy, tmp_path: Path) -> None:
    newest = train(toy, tmp_path / "run", 8, save_interval=4).last_checkpoint
    shutil.copytree(newest, tmp_path / "copy/step-000008")
    shutil.rmtree(tmp_path / "run")
    resumed = train(toy, tmp_path / "new", 12, resume=tmp_path / "copy/step-000008")
    assert resumed.step == 12


def test_a_checkpoint_of_before_there_were_blocks_goes_on_exactly(toy, tmp_path: Path, monkeypatch) -> None:
    whole = train(toy, tmp_path / "whole", 12, save_interval=100)
    with monkeypatch.context() as earlier:
        earlier.setattr(snapshot, "_takes_blocks", lambda method: False)
        newest = train(toy, tmp_path / "part", 5, save_interval=100).last_checkpoint
    assert not (newest / PLACE).exists()
    resumed = train(toy, tmp_path / "part", 12, save_interval=100, resume=tmp_path / "part")
    assert everything(resumed.last_checkpoint) == everything(whole.last_checkpoint)


def test_a_disk_that_fills_up_among_the_blocks_leaves_the_earlier_checkpoint(toy, tmp_path: Path, monkeypatch) -> None:
    trainer = train(toy, tmp_path, 4, save_interval=4)
    before = everything(trainer.last_checkpoint)

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blocks.np, "save", full)
    trainer.step = 5
    trainer.source.replay.end_episodes()
    with pytest.raises(CheckpointError, match="cannot save step 5"):
        trainer.save_checkpoint()
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-000000", "step-000004", "latest"}
    assert everything(find_checkpoint(tmp_path)) == before
    assert read_manifest(trainer.save_checkpoint())["step"] == 5


def test_a_replay_that_is_trained_from_is_saved_in_blocks(toy, tmp_path: Path) -> None:
    source = train(toy, tmp_path / "a", 2).source
    replay: Replay = source.replay
    trainer = toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "b", total_steps=2))
    trainer.train(replay)
    rows = replay.state_dict()[0]
    arrays, meta = load_arrays(trainer.last_checkpoint / "replay")
    assert set(arrays) == {"run_start"} and meta["rows"] == len(replay) // 2
    again = source.replay
    again.end_episodes()
    toy.Trainer(toy.ToyModel(), toy.options(tmp_path / "b", total_steps=3)).train(again, resume_from=tmp_path / "b")
    assert all(
        np.array_equal(array, again.state_dict()[0][name]) for name, array in rows.items() if "latent" not in name
    )


def test_a_step_that_is_saved_again_takes_its_blocks_from_itself(toy, tmp_path: Path) -> None:
    trainer = train(toy, tmp_path, 4, save_interval=4)
    before = inodes(trainer.last_checkpoint)
    again = trainer.save_checkpoint()
    assert again.name == "step-000004" and inodes(again) == before
    assert find_checkpoint(tmp_path) == again
