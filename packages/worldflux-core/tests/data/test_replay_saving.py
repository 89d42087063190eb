"""A saved replay goes on exactly where it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError
from worldflux.data import BatchRequest


def same(a, b):
    left, right = dict(a.tensors()), dict(b.tensors())
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("boundary", ["cross", "within"])
@pytest.mark.parametrize("rows", [11, 53])
def test_a_loaded_replay_samples_bit_for_bit_what_the_saved_one_would(make_replay, fill, tmp_path, boundary, rows):
    options = {"boundary": boundary, "online": True, "sequence_length": 4}
    replay = make_replay(seed=3, **options)
    fill(replay, rows)
    replay.update(replay.sample(BatchRequest(5, 4)), {"h": torch.rand(5, 2, 2)})
    replay.save(tmp_path / "replay")
    other = make_replay(seed=99, **options)
    fill(other, 8)  # whatever it held, and had drawn, is replaced
    other.sample(BatchRequest(3, 3))
    other.load(tmp_path / "replay")
    for step in range(4):
        for length in (4, 3):
            assert same(replay.sample(BatchRequest(7, length)), other.sample(BatchRequest(7, length)))
        fill(replay, 9, start=rows + 9 * step)
        fill(other, 9, start=rows + 9 * step)


def test_an_empty_replay_can_be_saved(make_replay, fill, tmp_path):
    make_replay(online=True, sequence_length=4).save(tmp_path)
    other = make_replay(online=True, sequence_length=4)
    fill(other, 6)
    other.load(tmp_path)
    assert len(other) == 0


def test_a_replay_that_was_never_full_goes_on_in_one_of_any_capacity_that_holds_it(make_replay, fill, tmp_path):
    small, large, just_enough = make_replay(), make_replay(60), make_replay(18)
    fill(small, 9)
    small.save(tmp_path)
    large.load(tmp_path)
    just_enough.load(tmp_path)
    for other in (large, just_enough):
        assert same(small.sample(BatchRequest(7, 3)), other.sample(BatchRequest(7, 3)))
        small.load(tmp_path)
    fill(large, 18, start=9)
    fill(always_large := make_replay(60), 27)
    rows, expected = large.state_dict()[0], always_large.state_dict()[0]
    assert all(np.array_equal(rows[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("rows", "capacity"), [(25, 60), (9, 16)], ids=["rows were lost", "rows would be lost"])
def test_a_replay_of_another_capacity_is_refused_where_rows_moved_and_nothing_changes(
    rows, capacity, make_replay, fill, tmp_path
):
    replay = make_replay()
    fill(replay, rows)
    replay.save(tmp_path)
    other = make_replay(capacity)
    fill(other, 3)
    with pytest.raises(CheckpointError, match=f"stream_capacity 20, this one {capacity // 2}"):
        other.load(tmp_path)
    assert len(other) == 6


def test_a_truncated_file_is_named(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 6)
    replay.save(tmp_path)
    file = next(tmp_path.glob("*reward.npy"))
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="'reward' in .*reward.npy is damaged"):
        make_replay().load(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"reward\.npy is damaged"):
        make_replay().load(tmp_path)
    with pytest.raises(CheckpointError, match=r"no readable arrays\.json"):
        make_replay().load(tmp_path / "nowhere")


def test_pickles_are_never_read(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 6)
    replay.save(tmp_path)
    file = next(tmp_path.glob("*reward.npy"))
    np.save(file, np.array([[{"a": 1}]], object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="damaged"):
        make_replay().load(tmp_path)


def test_files_outside_the_directory_are_not_read(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 6)
    replay.save(tmp_path / "a")
    page = tmp_path / "a" / "arrays.json"
    content = json.loads(page.read_text())
    content["files"]["reward"] = "../secret.npy"
    page.write_text(json.dumps(content))
    np.save(tmp_path / "secret.npy", np.zeros((2, 6), np.float32))
    with pytest.raises(CheckpointError, match="secret"):
        make_replay().load(tmp_path / "a")
