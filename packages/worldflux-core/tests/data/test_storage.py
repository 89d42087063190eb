"""Arrays that are written can be read back, and what is not ours is left alone."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from worldflux.core.errors import CheckpointError
from worldflux.data.storage import load_arrays, save_arrays


@pytest.mark.parametrize("values", [["a", "bcd"], [b"a", b"bc"], [1 + 2j, 3]], ids=["text", "bytes", "complex"])
@pytest.mark.parametrize("hashes", [True, False])
def test_text_bytes_and_complex_numbers_of_a_fixed_width_come_back(tmp_path, values, hashes):
    save_arrays(tmp_path, {"a": np.array(values)}, {}, hashes=hashes)
    found = load_arrays(tmp_path)[0]["a"]
    assert (found.dtype, found.tolist()) == (np.array(values).dtype, values)


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[25us]", "M8", ">U3"])
def test_arrays_that_need_no_pickle_come_back(tmp_path, dtype):
    save_arrays(tmp_path, {"a": np.zeros(3, dtype)}, {})
    assert load_arrays(tmp_path)[0]["a"].dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", [object, "V4", [("x", "f4")]], ids=["object", "void", "a structure"])
def test_an_array_that_could_not_be_read_back_is_refused_before_anything_is_written(tmp_path, dtype):
    save_arrays(tmp_path, {"a": np.ones(2)}, {})
    with pytest.raises(TypeError, match=r"array 'b' is .*: without pickle only"):
        save_arrays(tmp_path, {"a": np.zeros(2), "b": np.zeros(2, dtype)}, {})
    assert load_arrays(tmp_path)[0]["a"].tolist() == [1, 1]


def test_a_meta_that_could_not_be_read_back_is_refused_before_anything_is_written(tmp_path):
    save_arrays(tmp_path, {"a": np.ones(2)}, {})
    deep: dict = {}
    for _ in range(120):
        deep = {"a": deep}
    for meta in ({"x": 10**120}, deep):
        with pytest.raises(ValueError, match="digits|nested"):
            save_arrays(tmp_path, {"a": np.zeros(2)}, meta)
    assert load_arrays(tmp_path)[0]["a"].tolist() == [1, 1]


def test_a_large_meta_comes_back(tmp_path):
    save_arrays(tmp_path, {}, {"x": "y" * (17 << 20)})
    assert len(load_arrays(tmp_path)[1]["x"]) == 17 << 20


def test_a_meta_with_numbers_for_keys_comes_back_as_json_has_it(tmp_path):
    save_arrays(tmp_path, {}, {"x": {1: 2, 10: 3, 9: 1, "a": 4}})
    assert load_arrays(tmp_path)[1] == {"x": {"1": 2, "10": 3, "9": 1, "a": 4}}


def test_only_files_of_our_own_names_are_removed(tmp_path):
    for name in ("notes.txt", "01-mine.npy"):
        (tmp_path / name).write_text("x")
    files = {"a": "notes.txt", "b": "01-mine.npy"}
    (tmp_path / "arrays.json").write_text(json.dumps({"files": files, "meta": {}}))
    save_arrays(tmp_path, {"b": np.zeros(2)}, {})
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "00-b.npy", "arrays.json"}


def test_a_pipe_in_the_place_of_a_folder_is_refused_at_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CheckpointError, match="Not a directory"):
        load_arrays(pipe)
