"""A replay as a dataset: in memory, saved alone, or in a run's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec, vector
from worldflux.data import DatasetError, Replay, convert, open_dataset, write_dataset
from worldflux.data.replay.blocks import BlockFolder
from worldflux.data.replay.filling import fill_replay
from worldflux.data.replayed import replayed
from worldflux.data.storage import save_arrays
from worldflux.envs import Step
from worldflux.training.checkpoint import write_checkpoint

IMAGE = {"image": ModalitySpec("image", (6, 4, 4), "uint8")}
LATENTS = {"deter": ((2,), "float32")}


def replay(capacity=60, streams=2, **options):
    specs = {"obs_spec": {"state": vector(2)}, "action_spec": ActionSpec("discrete", 3)} | options
    return Replay(capacity, num_streams=streams, **specs)


def filled(buffer: Replay, rows: int, *, length: int = 5, latents=None) -> Replay:
    """Stream 0 has episodes of ``length`` rows, stream 1 the same after a single row; every second is terminal."""
    streams = np.arange(buffer.num_streams)
    begun = np.zeros(len(streams), int)
    for row in range(rows):
        at = np.maximum(row - streams, 0) % length if row else streams * 0
        first = (at == 0) & (row >= streams) | (row == 0)
        begun += first
        last = (at == length - 1) | ((row == 0) & (streams > 0) & (streams == 1))
        obs = {"state": np.stack([begun, np.full(len(streams), row)], 1).astype(np.float32)}
        if "image" in buffer.obs_spec:
            obs = {"image": stacks(row, at)}
        step = Step(obs, np.where(first, 0, row).astype(np.float32), first, last, last & (begun % 2 == 0))
        buffer.add(step, np.eye(3, dtype=np.float32)[(row + streams) % 3], latents)
    return buffer


def stacks(row: int, at: np.ndarray) -> np.ndarray:
    """The last two frames, whose pixels are their row's number."""
    before = np.where(at == 0, row, row - 1)
    one = np.ones((len(at), 3, 4, 4), np.uint8)
    return np.concatenate([one * before[:, None, None, None].astype(np.uint8), one * np.uint8(row)], 1)


def test_every_row_of_every_episode_is_written(tmp_path: Path) -> None:
    buffer = filled(replay(), 12)
    done = write_dataset(buffer, tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    assert done.rows == len(dataset) == len(buffer) == 24
    assert dataset.episodes.ids[:2] == ("000-0000000000", "001-0000000000")
    arrays, _ = buffer.state_dict()
    for index, name in enumerate(dataset.episodes.ids):
        stream, first = map(int, name.split("-"))
        rows = dataset.episode(index)
        held = slice(first, first + len(rows["reward"]))
        assert np.array_equal(rows["obs/state"], arrays["obs/state"][stream, held])
        assert np.array_equal(rows["reward"], arrays["reward"][stream, held])
        assert np.array_equal(rows["action"], arrays["action"][stream, held])
        assert rows["is_terminal"][-1] == arrays["is_terminal"][stream, held][-1]


def test_an_episode_under_way_is_cut_and_not_ended_in_truth(tmp_path: Path) -> None:
    write_dataset(filled(replay(), 12), tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    assert [int(dataset.episodes.lengths[i]) for i in (-2, -1)] == [2, 1]
    assert not dataset.episodes.terminal[-2:].any() and dataset.episode(-2)["is_last"][-1]
    assert any("2 of 7 episodes were under way" in remark for remark in dataset.remarks)


def test_what_the_ring_has_overwritten_is_an_episode_that_begins_in_its_middle(tmp_path: Path) -> None:
    write_dataset(filled(replay(16), 12), tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    assert len(dataset) == 16
    assert dataset.episodes.ids[:2] == ("000-0000000004-tail", "001-0000000004-tail")
    rows = dataset.episode(1)
    assert rows["obs/state"][:, 1].tolist() == [4, 5] and rows["reward"].tolist() == [0, 5]
    assert any("2 of 6 episodes begin in their middle" in remark for remark in dataset.remarks)


def test_frames_are_stored_once_and_are_the_stacks_again(tmp_path: Path) -> None:
    buffer = filled(replay(16, 1, obs_spec=IMAGE, frame_stacks={"image": 2}), 21)
    write_dataset(buffer, tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    assert dict(dataset.recording.frame_stack) == {"image": 2}
    at = dataset.episodes.ids.index("000-0000000010")
    assert np.array_equal(
        dataset.episode(at)["obs/image"], np.concatenate([stacks(10 + t, np.array([t])) for t in range(5)])
    )
    assert dataset.recording.read("obs/image", at, 2, 4)[:, 0, 0, 0].tolist() == [11, 12]


def test_a_replay_begins_with_what_another_one_held(tmp_path: Path) -> None:
    write_dataset(filled(replay(), 12), tmp_path / "set")
    again = replay(streams=1)
    assert fill_replay(again, [open_dataset(tmp_path / "set")]) == 24
    assert len(replayed(again).episodes) == 7


def test_a_dataset_is_written_too_and_writing_again_goes_on(tmp_path: Path) -> None:
    buffer = filled(replay(), 12)
    write_dataset(buffer, tmp_path / "a")
    assert write_dataset(open_dataset(tmp_path / "a"), tmp_path / "b").episodes == 7
    assert write_dataset(buffer, tmp_path / "a").episodes == 7
    with pytest.raises(ConfigurationError, match="holds episodes of something else"):
        write_dataset(filled(replay(), 13), tmp_path / "a")


def test_windows_are_drawn_from_a_replay_as_from_a_dataset() -> None:
    batch = replayed(filled(replay(), 12)).windows(3).sample(50)
    assert batch.obs["state"].shape == (50, 3, 2)
    assert not batch.is_first[:, 1:].any()


def test_an_empty_replay_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the replay is empty"):
        write_dataset(replay(), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_rows_that_were_overwritten_meanwhile_are_not_taken_for_others() -> None:
    buffer = filled(replay(24), 12)
    dataset = replayed(buffer)
    filled(buffer, 3)
    with pytest.raises(DatasetError, match="has overwritten episode '000-0000000000' since"):
        dataset.episode(0)


def checkpointed(run: Path, buffer: Replay, *, step: int = 7, change=lambda meta: meta) -> Path:
    """A run whose checkpoint holds a replay, as a trainer writes it."""

    def write(folder: Path) -> None:
        arrays, meta = buffer.state_dict(BlockFolder(folder / "replay/blocks"))
        meta = change(meta)
        save_arrays(folder / "replay", {f"replay/{k}": v for k, v in arrays.items()}, {"replay": meta}, hashes=False)

    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps({"env": "CartPole-v1", "seed": 3}))
    write_checkpoint(run / "checkpoints", step=step, write=write, keep=2)
    return run


@pytest.mark.parametrize("rows", [12, 40])
def test_a_run_is_read_as_the_replay_of_its_newest_checkpoint(tmp_path: Path, rows) -> None:
    checkpointed(tmp_path / "run", filled(replay(), 5), step=3)
    latents = {"deter": np.zeros((2, 2), np.float32)}
    buffer = filled(replay(latent_spec=LATENTS, sequence_length=4, online=True), rows, latents=latents)
    run = checkpointed(tmp_path / "run", buffer)
    dataset = open_dataset(run)
    assert dataset.recording.format == "worldflux-replay" and dataset.recording.names == (
        "obs/state",
        "action",
        "reward",
    )
    assert dataset.fingerprint == replayed(buffer).fingerprint == open_dataset(run).fingerprint
    assert dataset.recording.provenance == {"checkpoint": "step-000007", "env": "CartPole-v1", "seed": 3}
    assert convert(dataset, tmp_path / "set").rows == len(buffer)
    assert len(open_dataset(run / "checkpoints/step-000003")) == 10


def test_a_replay_that_was_saved_alone_is_read(tmp_path: Path) -> None:
    buffer = filled(replay(obs_spec=IMAGE, frame_stacks={"image": 2}), 12)
    assert open_dataset(buffer.save(tmp_path / "saved")).fingerprint == replayed(buffer).fingerprint


def test_a_block_that_was_altered_is_named(tmp_path: Path) -> None:
    run = checkpointed(tmp_path / "run", filled(replay(), 12))
    (block,) = run.glob("checkpoints/step-000007/replay/blocks/*.npy")
    data = bytearray(block.read_bytes())
    data[-70] ^= 1
    block.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{block.name}: it is missing, or was altered"):
        open_dataset(run)


def test_a_checkpoint_that_does_not_say_what_its_rows_are_is_refused_with_a_way_out(tmp_path: Path) -> None:
    drop = lambda meta: {name: value for name, value in meta.items() if name != "specs"}
    run = checkpointed(tmp_path / "run", filled(replay(), 12), change=drop)
    with pytest.raises(DatasetError, match="an earlier version saved it.*worldflux train --run RUN --resume"):
        open_dataset(run)


def test_a_run_without_a_replay_or_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run_manifest.json").write_text("{}")
    with pytest.raises(DatasetError, match="holds no checkpoint"):
        open_dataset(tmp_path / "run")
    write_checkpoint(tmp_path / "run/checkpoints", step=1, write=lambda folder: None, keep=1)
    with pytest.raises(DatasetError, match="holds no replay: its run learned from recorded data alone"):
        open_dataset(tmp_path / "run")
