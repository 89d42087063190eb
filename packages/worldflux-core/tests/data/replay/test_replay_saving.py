"""A saved replay goes on exactly where it was."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError
from worldflux.data import BatchRequest
from worldflux.data.storage import load_arrays, save_arrays


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
    with pytest.raises(CheckpointError, match=f"keeps 20, this one {capacity // 2}: .* a capacity of 40 "):
        other.load(tmp_path)
    assert len(other) == 6


def unhashed(replay, folder, **files):
    """A save as it was before there were hashes, whose page may name other files."""
    save_arrays(folder, *replay.state_dict(), hashes=False)
    page = json.loads((folder / "arrays.json").read_text())
    assert set(page) == {"files", "meta"}
    (folder / "arrays.json").write_text(json.dumps({**page, "files": {**page["files"], **files}}))


@pytest.mark.parametrize("hashes", [True, False])
def test_a_truncated_file_is_named(make_replay, fill, tmp_path, hashes):
    replay = make_replay()
    fill(replay, 6)
    replay.save(tmp_path) if hashes else unhashed(replay, tmp_path)
    file = next(tmp_path.glob("*reward.npy"))
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"reward\.npy (was altered or truncated|is damaged)"):
        make_replay().load(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"reward\.npy is (missing|damaged)"):
        make_replay().load(tmp_path)
    with pytest.raises(CheckpointError, match=r"no readable arrays\.json"):
        make_replay().load(tmp_path / "nowhere")


def test_a_save_of_before_there_were_hashes_is_loaded(make_replay, fill, tmp_path):
    replay, other = make_replay(), make_replay(seed=9)
    fill(replay, 6)
    unhashed(replay, tmp_path)
    other.load(tmp_path)
    assert same(replay.sample(BatchRequest(5, 4)), other.sample(BatchRequest(5, 4)))


def test_one_turned_bit_anywhere_is_refused(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 6)
    replay.save(tmp_path)
    draw = random.Random(0)
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        for _ in range(12):
            at = draw.randrange(len(whole))
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
            with pytest.raises(CheckpointError):
                make_replay().load(tmp_path)
        file.write_bytes(whole)
    make_replay().load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("obs/obs", lambda a: a * np.nan),
        ("reward", lambda a: a + np.inf),
        ("is_terminal", lambda a: ~a),
    ],
)
def test_rows_that_could_not_be_added_are_not_loaded(make_replay, fill, tmp_path, name, change):
    replay = make_replay()
    fill(replay, 6)
    arrays, meta = replay.state_dict()
    save_arrays(tmp_path, {**arrays, name: change(arrays[name])}, meta)
    with pytest.raises(CheckpointError, match="saved replay"):
        make_replay().load(tmp_path)


def test_saving_over_a_save_leaves_nothing_of_it(make_replay, fill, tmp_path):
    save_arrays(tmp_path, {str(i): np.zeros(1) for i in range(30)}, {})
    (tmp_path / "notes.txt").write_text("mine")
    replay = make_replay()
    fill(replay, 6)
    replay.save(tmp_path)
    files = set(json.loads((tmp_path / "arrays.json").read_text())["files"].values())
    assert {path.name for path in tmp_path.iterdir()} == files | {"arrays.json", "notes.txt"}


def test_pickles_are_never_read(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 6)
    unhashed(replay, tmp_path)
    file = next(tmp_path.glob("*reward.npy"))
    np.save(file, np.array([[{"a": 1}]], object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="no plain numbers"):
        make_replay().load(tmp_path)


HEADERS = {
    "an object": b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }",
    "a complex number": b"{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }",
    "text of no width": b"{'descr': '<U0', 'fortran_order': False, 'shape': (2,), }",
    "a record": b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
    "more than there is": b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
    "less than there is": b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
    "a huge shape": b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 18 + b", 9), }",
    "a negative shape": b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
    "40 axes": b"{'descr': '<f4', 'fortran_order': False, 'shape': (2" + b", 1" * 39 + b"), }",
    "digits without end": b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1" * 60_000 + b"), }",
    "a call": b"__import__('os').getcwd()",
    "nothing": b"",
    "depth": b"[" * 60_000,
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_of_anything_but_numbers_as_many_as_there_are_is_refused(tmp_path, what):
    save_arrays(tmp_path, {"a": np.zeros(2, np.float32)}, {}, hashes=False)
    header = HEADERS[what]
    (tmp_path / "00-a.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + b"\0" * 8)
    with pytest.raises(CheckpointError, match=r"array 'a' in .*00-a\.npy is damaged"):
        load_arrays(tmp_path)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
@pytest.mark.parametrize("dtype", ["?", "<i8", ">f4", "u1", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numbers_come_back_equal(tmp_path, shape, dtype, order):
    array = np.asarray(np.arange(6)[: int(np.prod(shape))].reshape(shape).astype(dtype), order=order)
    save_arrays(tmp_path, {"a": array}, {"note": 1})
    arrays, meta = load_arrays(tmp_path)
    assert (arrays["a"].dtype, arrays["a"].shape, meta) == (array.dtype, shape, {"note": 1})
    assert np.array_equal(arrays["a"], array)


def test_files_outside_the_directory_are_not_read(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 6)
    np.save(tmp_path / "secret.npy", np.zeros((2, 6), np.float32))
    unhashed(replay, tmp_path / "a", reward="../secret.npy")
    with pytest.raises(CheckpointError, match="secret"):
        make_replay().load(tmp_path / "a")
    unhashed(replay, tmp_path / "a", reward="link.npy")
    (tmp_path / "a/link.npy").symlink_to("../secret.npy")
    with pytest.raises(CheckpointError, match="out of its folder"):
        make_replay().load(tmp_path / "a")
    (tmp_path / "a/link.npy").unlink()
    os.mkfifo(tmp_path / "a/link.npy")
    with pytest.raises(CheckpointError, match="no plain file"):
        make_replay().load(tmp_path / "a")
