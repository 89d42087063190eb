"""Any dataset as one of ours, several as one, and what a dataset is said to hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import (
    Dataset,
    DatasetError,
    DatasetWriter,
    EpisodeTable,
    Recording,
    convert,
    describe,
    open_dataset,
)

STATE = {"state": ModalitySpec("vector", (2,))}


def recorded(lengths, *, ids=None, offset: float = 0, stand_in=None, remarks=()) -> Dataset:
    table = EpisodeTable.of(ids or range(len(lengths)), lengths, [True] * len(lengths), stand_in)
    row = np.concatenate([np.arange(n, dtype=np.float32) for n in lengths])
    columns = {"obs/state": np.stack([row, row + offset], 1), "action": row[:, None] / 100, "reward": row}
    about = {"remarks": tuple(remarks), "provenance": {"maker": "me"}}
    return Dataset(Recording("memory", Path("here"), STATE, ActionSpec("continuous", 1), table, columns, **about))


def test_every_row_flag_and_remark_is_kept(tmp_path: Path) -> None:
    source = recorded([4, 6], ids=["a", "b"], stand_in=[False, True], remarks=["a guess"])
    done = convert(source, tmp_path / "set")
    copy = open_dataset(tmp_path / "set")
    assert (done.episodes, done.rows, done.total) == (2, 10, 2)
    assert copy.episodes.ids == ("a", "b") and copy.episodes.stand_in.tolist() == [False, True]
    for index in range(2):
        for name, column in source.episode(index).items():
            assert np.array_equal(copy.episode(index)[name], column), name
    assert copy.remarks == ("memory: a guess",)
    told = copy.recording.provenance
    assert (told["converted_from"], told["place"], told["provenance"]) == ("memory", "here", {"maker": "me"})
    assert told["fingerprint"] == source.fingerprint


def test_converting_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source, asked = recorded([3, 4, 5, 6]), []
    first = convert(source, tmp_path / "set", stop=lambda: asked.append(0) or len(asked) > 2)
    assert first.episodes == 2 and len(open_dataset(tmp_path / "set").episodes) == 2
    assert convert(source, tmp_path / "set").episodes == 4
    before = (tmp_path / "set/dataset.json").read_bytes()
    assert convert(source, tmp_path / "set").episodes == 4
    assert (tmp_path / "set/dataset.json").read_bytes() == before
    assert open_dataset(tmp_path / "set").episodes.lengths.tolist() == [3, 4, 5, 6]


def test_another_source_is_not_written_into_a_dataset(tmp_path: Path) -> None:
    convert(recorded([3]), tmp_path / "set")
    with pytest.raises(ConfigurationError, match="holds episodes of something else, here: choose another folder"):
        convert(recorded([4]), tmp_path / "set")


def test_what_two_datasets_hold_is_written_once_and_other_episodes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    one, other = recorded([3, 4], ids=["x", "y"]), recorded([3, 5], ids=["x", "y"])
    done = convert([one, other], tmp_path / "set")
    merged = open_dataset(tmp_path / "set")
    assert merged.episodes.ids == ("x", "y", f"y@{other.fingerprint[:8]}") and done.doubles == 1
    assert merged.episodes.lengths.tolist() == [3, 4, 5] and merged.recording.sources.tolist() == [0, 0, 1]
    assert convert([one, other], tmp_path / "set").episodes == 3


def test_a_dataset_is_not_merged_with_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="here is given twice, or a copy of it"):
        convert([recorded([3]), recorded([4]), recorded([3])], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_datasets_of_other_rows_do_not_become_one(tmp_path: Path) -> None:
    other = recorded([3])
    other.recording.action_spec = ActionSpec("discrete", 1)
    with pytest.raises(
        ConfigurationError, match="action_spec of here is continuous of size 1, of here discrete of size 1"
    ):
        convert([recorded([3]), other], tmp_path / "set")


def test_what_two_formats_say_otherwise_of_the_same_rows_is_no_difference(tmp_path: Path) -> None:
    other = recorded([3], offset=5)
    spec = other.recording.obs_spec["state"]
    other.recording.obs_spec = {"state": replace(spec, layout="N", name="state")}
    assert convert([recorded([3]), other], tmp_path / "set").episodes == 2


def test_a_dataset_is_not_converted_into_its_own_folder(tmp_path: Path) -> None:
    source = recorded([3])
    source.recording.place = tmp_path
    with pytest.raises(ConfigurationError, match="is what is to be converted: choose another folder"):
        convert(source, tmp_path / "x/..")
    assert not list(tmp_path.iterdir())


def test_a_wrong_row_is_named_and_the_episodes_before_it_are_kept(tmp_path: Path) -> None:
    source = recorded([3, 4])
    source.recording.columns["obs/state"][5, 0] = np.inf
    with pytest.raises(DatasetError, match="episode 1, row 2: obs/state is inf"):
        convert(source, tmp_path / "set")
    assert open_dataset(tmp_path / "set").episodes.ids == ("0",)
    (problem,) = source.recording.verify()
    assert "episode 1, row 2: obs/state holds no number" in str(problem)


def test_stacks_of_frames_stay_single_frames(tmp_path: Path) -> None:
    spec = {"image": ModalitySpec("image", (6, 4, 4), "uint8")}
    with DatasetWriter(tmp_path / "a", spec, ActionSpec("continuous", 1), frame_stack={"image": 2}) as writer:
        frames = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), np.uint8)
        writer.append({"obs/image": frames, "action": np.zeros((5, 1)), "reward": np.zeros(5)})
    convert(open_dataset(tmp_path / "a"), tmp_path / "b")
    a, b = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    assert dict(b.recording.frame_stack) == {"image": 2}
    assert np.array_equal(a.episode(0)["obs/image"], b.episode(0)["obs/image"])


def test_a_dataset_is_described(tmp_path: Path) -> None:
    convert(recorded([4, 6], offset=10), tmp_path / "set")
    told = json.loads(json.dumps(describe(open_dataset(tmp_path / "set"))))
    assert (told["episodes"], told["rows"], told["ended_in_truth"], told["looked_at"]) == (2, 10, 2, 2)
    assert told["modalities"]["state"] == {
        "kind": "vector", "shape": [2], "dtype": "float32", "low": [0.0, 10.0], "high": [5.0, 15.0],
    }  # fmt: skip
    assert told["actions"] == {"kind": "continuous", "dim": 1, "low": [0.0], "high": [0.04]}  # not the last row's
    assert told["returns"]["max"] == 15 and told["lengths"]["min"] == 4
    assert told["model_sees"]["obs['state']"] == "[B, T, 2] float32"


def test_reading_some_episodes_is_enough_to_describe_many(tmp_path: Path) -> None:
    source = recorded([2] * 50)
    read = []
    column = source.recording.read
    source.recording.read = lambda name, episode, *args: read.append(episode) or column(name, episode, *args)
    told = describe(source, most=3)
    assert (told["episodes"], told["looked_at"]) == (50, 3) and set(read) == {0, 24, 49}
