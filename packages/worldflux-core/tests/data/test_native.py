"""Datasets of our own: what is appended is read back, whole, by anybody, whatever happens to who wrote it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from worldflux import files
from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import DatasetError, DatasetWriter, open_dataset
from worldflux.data.native import blocks, shards
from worldflux.envs.stack import stacked

STATE = {"state": ModalitySpec("vector", (2,))}
IMAGE = {"image": ModalitySpec("image", (3, 20, 20), "uint8"), **STATE}
ONE = ActionSpec("continuous", 1)


def episode(number: int, rows: int, *, image: bool = False) -> dict[str, np.ndarray]:
    """Rows whose numbers say which they are."""
    at = np.arange(rows, dtype=np.float32)
    out = {"obs/state": np.stack([at, np.full(rows, number, np.float32)], 1), "action": at[:, None] / 100, "reward": at}
    if image:
        rng = np.random.default_rng(number)
        out["obs/image"] = rng.integers(0, 256, (rows, 3, 20, 20), np.uint8)
    return out


def written(path: Path, lengths: list[int], *, obs: dict = STATE, **options) -> Path:
    with DatasetWriter(path, obs, ONE, **options) as writer:
        for number, rows in enumerate(lengths):
            writer.append(episode(number, rows, image="image" in obs), terminal=number % 2 == 0)
    return path


@pytest.mark.parametrize("images", ["raw", "zstd"])
def test_what_was_appended_is_read_back(tmp_path: Path, images) -> None:
    pytest.importorskip("zstandard")
    lengths = [5, 1, 130, 64, 63]
    dataset = open_dataset(written(tmp_path / "set", lengths, obs=IMAGE, images=images, shard_bytes=70_000))
    assert len(list((tmp_path / "set/shards").iterdir())) == 3
    assert dataset.episodes.lengths.tolist() == lengths and len(dataset) == sum(lengths)
    assert dataset.episodes.terminal.tolist() == [True, False, True, False, True]
    for number, rows in enumerate(lengths):
        got = dataset.episode(number)
        for name, column in episode(number, rows, image=True).items():
            assert np.array_equal(got[name], column), name
        assert got["is_last"].tolist() == [False] * (rows - 1) + [True]


def test_frames_are_stored_once_and_stacked_as_the_environment_stacks_them(tmp_path: Path) -> None:
    frames = episode(3, 9, image=True)["obs/image"]
    shown, rows = None, []
    for t in range(9):
        shown = stacked(shown, frames[t : t + 1], np.array([t == 0]), frames=3)
        rows.append(shown[0])
    rows = np.stack(rows)
    spec = {"image": ModalitySpec("image", (9, 20, 20), "uint8")}
    with DatasetWriter(tmp_path / "set", spec, ONE, rewards=False, frame_stack={"image": 3}) as writer:
        writer.append({"obs/image": rows, "action": np.zeros((9, 1))})
        writer.append({"obs/image": frames, "action": np.zeros((9, 1))})
    dataset = open_dataset(tmp_path / "set")
    stored = np.load(next((tmp_path / "set/shards/000000").glob("*image*")))
    assert stored.shape == (18, 3, 20, 20)
    assert np.array_equal(dataset.episode(0)["obs/image"], rows)
    assert np.array_equal(dataset.episode(1)["obs/image"], rows)
    batch = dataset.batch([0, 1, 1], [0, 1, 5], 4)
    for got, start in zip(batch.obs["image"].numpy(), (0, 1, 5), strict=True):
        assert np.array_equal(got, rows[start : start + 4])
    assert np.array_equal(dataset.batch([0], [1], 3, frame_skip=3).obs["image"][0], rows[1:9:3])


def test_what_is_no_stack_of_the_last_frames_is_refused_by_row(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (4, 6, 20, 20), np.uint8)
    spec = {"image": ModalitySpec("image", (6, 20, 20), "uint8")}
    with DatasetWriter(tmp_path / "set", spec, ONE, rewards=False, frame_stack={"image": 2}) as writer:
        writer.append({"obs/image": rows[:, :3], "action": np.zeros((4, 1))})
        with pytest.raises(DatasetError, match="row 0.*frame of 1 row before"):
            writer.append({"obs/image": rows, "action": np.zeros((4, 1))})


def test_appending_goes_on_and_leaves_sealed_shards_alone(tmp_path: Path) -> None:
    place = written(tmp_path / "set", [4, 5], provenance={"env": "A"})
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in place.glob("shards/*/*")}
    earlier = open_dataset(place)
    with DatasetWriter(place, STATE, ONE, mode="append", provenance={"env": "B"}) as writer:
        assert (writer.episodes, writer.rows) == (2, 9)
        writer.append(episode(2, 3), id="mine")
    later = open_dataset(place)
    assert before == {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in before}
    assert later.episodes.ids == ("00000000", "00000001", "mine") and later.recording.sources.tolist() == [0, 0, 1]
    assert [source["env"] for source in later.recording.provenance["sources"]] == ["A", "B"]
    assert len(earlier.episodes) == 2 and earlier.episode(1)["reward"].tolist() == [0, 1, 2, 3, 4]
    assert earlier.fingerprint != later.fingerprint == open_dataset(place).fingerprint


def test_a_dataset_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    place = written(tmp_path / "set", [4])
    with pytest.raises(ConfigurationError, match="holds a dataset"):
        DatasetWriter(place, STATE, ONE)
    with pytest.raises(ConfigurationError, match="whose action_spec is continuous of size 1, of these"):
        DatasetWriter(place, STATE, ActionSpec("continuous", 2), mode="append")
    assert len(open_dataset(place).episodes) == 1


def test_a_second_writer_is_refused_while_one_lives(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", STATE, ONE)
    with pytest.raises(ConfigurationError, match=f"written to by process {os.getpid()}"):
        DatasetWriter(tmp_path / "set", STATE, ONE, mode="append")
    writer.close()
    assert not (tmp_path / "set").exists()  # nothing was written


WRONG = {
    "no rows": ({"obs/state": np.zeros((0, 2)), "action": np.zeros((0, 1)), "reward": np.zeros(0)}, "no rows"),
    "ragged": ({"action": np.zeros((4, 1))}, "row 4: 'action' has 4 rows, 'obs/state' 5"),
    "no number": ({"obs/state": np.array([[0, 0]] * 3 + [[0, np.nan]] * 2)}, "row 3: obs/state is nan"),
    "infinite once narrowed": ({"obs/state": np.full((5, 2), 1e300)}, "row 0: obs/state is 1e"),
    "dtype": ({"obs/state": np.full((5, 2), "x")}, "'obs/state' is <U1, expected float32"),
    "shape": ({"action": np.zeros((5, 3))}, r"'action' is \(3,\) in every row, expected \(1,\)"),
    "paid at the first row": ({"reward": np.ones(5)}, "row 0: reward is 1"),
    "ends in the middle": ({"is_last": np.array([0, 0, 1, 0, 1])}, "row 2: 'is_last' is true in the middle"),
    "a column too many": ({"obs/stat": np.zeros((5, 2))}, "unknown column 'obs/stat'.*'obs/state'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_rows_are_checked_at_the_door_and_nothing_of_a_wrong_episode_is_kept(tmp_path: Path, what) -> None:
    columns, message = WRONG[what]
    with DatasetWriter(tmp_path / "set", STATE, ONE) as writer:
        writer.append(episode(0, 3))
        with pytest.raises(DatasetError, match=f"episode wrong.*{message}"):
            writer.append(episode(1, 5) | columns, id="wrong")
    assert open_dataset(tmp_path / "set").episodes.ids == ("00000000",)


def test_discrete_actions_are_one_hot_but_for_the_last(tmp_path: Path) -> None:
    spec = ActionSpec("discrete", 3)
    with DatasetWriter(tmp_path / "set", STATE, spec, rewards=False) as writer:
        rows = {"obs/state": np.zeros((3, 2)), "action": np.eye(3)}
        rows["action"][2] = 0
        writer.append(rows)
        rows["action"][1] = 0.5
        with pytest.raises(DatasetError, match="row 1: action part 'action' is .* one-hot of 3"):
            writer.append(rows)


def write_until_killed(place: Path, steps: int) -> None:
    """Append two episodes, each sealed, and die without a word after so many steps on the disk."""
    left = [steps]

    def dying(call):
        def wrapped(*args, **named):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)

        return wrapped

    for module, name in ((shards, "sync"), (files, "sync"), (os, "rename"), (os, "replace"), (os, "fsync")):
        setattr(module, name, dying(getattr(module, name)))
    with DatasetWriter(place, STATE, ONE, mode="append") as writer:
        for number in range(writer.episodes, writer.episodes + 2):
            writer.append(episode(number, 5), id=str(number))
            writer.seal()
            (place.parent / "sealed").write_text(str(writer.sealed))


def test_whenever_a_writer_is_killed_every_sealed_episode_is_there_once(tmp_path: Path) -> None:
    place, said, steps = tmp_path / "set", tmp_path / "sealed", 0
    said.write_text("0")
    while int(said.read_text()) < 6:  # each time a step further, until several writers came through
        least = int(said.read_text())
        process = multiprocessing.get_context("fork").Process(target=write_until_killed, args=(place, steps))
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        steps += 1
        if (place / "dataset.json").exists():
            dataset = open_dataset(place)
            count = len(dataset.episodes)
            assert count >= max(least, int(said.read_text()))
            assert dataset.episodes.ids == tuple(map(str, range(count)))
            for number in range(count):
                assert dataset.episode(number)["obs/state"][:, 1].tolist() == [number] * 5
    assert steps > 20


def test_what_a_killed_writer_left_is_dropped_and_said(tmp_path: Path, caplog) -> None:
    place = written(tmp_path / "set", [4])
    (place / "shards/.000001").mkdir()
    (place / "shards/000001").mkdir()
    (place / "shards/000001/00-obs.npy").write_text("half")
    assert len(open_dataset(place)) == 4
    with DatasetWriter(place, STATE, ONE, mode="append") as writer:
        writer.append(episode(1, 2))
    assert "dropped 2 unfinished shards" in caplog.text
    assert sorted(path.name for path in (place / "shards").iterdir()) == ["000000", "000001"]
    assert len(open_dataset(place)) == 6


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    place = written(tmp_path / "set", [4])
    writer = DatasetWriter(place, STATE, ONE, mode="append")
    writer.append(episode(1, 5))

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shards.os, "fsync", full)
        with pytest.raises(DatasetError, match="could not seal 1 episode: .*No space left.*1 sealed before"):
            writer.seal()
    assert len(open_dataset(place)) == 4 and len(list((place / "shards").iterdir())) == 1
    writer.close()  # there is room again
    assert len(open_dataset(place)) == 9


def test_a_flipped_byte_is_named_by_file_and_episode(tmp_path: Path) -> None:
    place = written(tmp_path / "set", [4, 5, 6])
    file = next(place.glob("shards/*/*state.npy"))
    data = bytearray(file.read_bytes())
    data[-6 * 8 - 2] ^= 1  # in the last row of the episode before the last
    file.write_bytes(data)
    with pytest.raises(DatasetError, match=f"{file}, episode 00000001: obs/state was altered"):
        open_dataset(place)
    dataset = open_dataset(place, verify=False)
    assert dataset.episode(0)["reward"].tolist() == [0, 1, 2, 3]
    with pytest.raises(DatasetError, match="episode 00000001: obs/state was altered"):
        dataset.episode(1)


def edited(place: Path, **changes) -> None:
    page = json.loads((place / "dataset.json").read_text())
    (place / "dataset.json").write_text(json.dumps(page | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "version 2, this worldflux reads up to 1; upgrade"),
        ({"format": "other"}, "not a dataset of WorldFlux"),
        ({"rows": 3}, "its shards have 9 rows"),
        ({"remarks": ["none"]}, "it was altered: its digest differs"),
        ({"action_spec": None}, "NoneType"),
        ({"modalities": {"state": {"kind": "vector", "shape": [2], "dtype": "O"}}}, "dtype 'O'"),
        ({"frame_stack": {"state": 3}}, "frame_stack 3 does not fit 'state'"),
        ({"frame_stack": {"state": 2}}, "frame_stack 2 does not fit 'state'"),
    ],
)
def test_a_damaged_or_newer_page_is_refused_by_name(tmp_path: Path, changes, message) -> None:
    place = written(tmp_path / "set", [4, 5])
    edited(place, **changes)
    with pytest.raises(DatasetError, match=f"dataset.json.*{message}"):
        open_dataset(place)


@pytest.mark.parametrize(("key", "value"), [("name", "../../elsewhere"), ("file", "../x.npy"), ("file", "/etc/x.npy")])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, key, value) -> None:
    place = written(tmp_path / "set", [4])
    shard = json.loads((place / "dataset.json").read_text())["shards"][0]
    (shard if key == "name" else shard["columns"]["action"])[key] = value
    edited(place, shards=[shard])
    with pytest.raises(DatasetError, match="leads out of the folder"):
        open_dataset(place)


def test_a_shard_that_is_a_link_elsewhere_is_refused(tmp_path: Path) -> None:
    place = written(tmp_path / "set", [4])
    (place / "shards/000000").rename(tmp_path / "elsewhere")
    (place / "shards/000000").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="link out of the dataset's folder"):
        open_dataset(place, verify=False).episode(0)


def test_images_are_raw_until_they_are_many_and_then_packed_and_said(tmp_path: Path, monkeypatch, caplog) -> None:
    pytest.importorskip("zstandard")
    caplog.set_level("INFO")
    monkeypatch.setattr("worldflux.data.native.writer.RAW_BYTES", 20_000)
    with DatasetWriter(tmp_path / "set", IMAGE, ONE) as writer:
        for number in range(3):
            writer.append(episode(number, 10, image=True) | {"obs/image": np.full((10, 3, 20, 20), number, np.uint8)})
            writer.seal()
    files = sorted(path.name for path in (tmp_path / "set").rglob("*image*"))
    assert files == ["00-obs_image.npy"] * 3 + ["00-obs_image.zst"] * 2
    assert "from here on in zstd blocks" in caplog.text
    dataset = open_dataset(tmp_path / "set")
    assert [int(dataset.episode(i)["obs/image"].mean()) for i in range(3)] == [0, 1, 2]


def test_a_block_says_how_large_it_is_and_is_not_believed() -> None:
    pytest.importorskip("zstandard")
    with pytest.raises(ValueError, match="it unpacks to 100000 bytes, expected 10"):
        blocks.unpacked(blocks.packed(bytes(100_000)), 10)
    with pytest.raises(ValueError, match="does not unpack"):
        blocks.unpacked(b"no block at all", 10)
