"""HDF5 files that nobody has vouched for."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from worldflux.data import DatasetError, open_dataset

h5py = pytest.importorskip("h5py")


def d4rl_file(path: Path, rows: int = 12, **columns) -> Path:
    rng = np.random.default_rng(0)
    given = {
        "observations": rng.normal(size=(rows, 3)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": np.arange(rows) == rows - 1,
        "timeouts": np.zeros(rows, bool),
    } | columns
    with h5py.File(path, "w") as file:
        for name, values in given.items():
            if values is not None:
                file[name] = values
    return path


def refused(path: Path, *words: str, **options) -> None:
    with pytest.raises(DatasetError) as error:
        open_dataset(path, format="d4rl", **options)
    assert all(word in str(error.value) for word in (path.name, *words)), error.value


@pytest.mark.parametrize("link", ["external", "soft"])
def test_links_are_not_followed(tmp_path, link):
    other = d4rl_file(tmp_path / "other.hdf5")
    path = d4rl_file(tmp_path / "data.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        outside = h5py.ExternalLink(str(other), "/observations")
        file["observations"] = outside if link == "external" else h5py.SoftLink("/actions")
    refused(path, "observations", "a link to elsewhere")


def test_numbers_kept_in_other_files_are_not_read(tmp_path):
    other = d4rl_file(tmp_path / "other.hdf5")
    layout = h5py.VirtualLayout((12, 3), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "observations", shape=(12, 3))
    path = d4rl_file(tmp_path / "virtual.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("observations", layout)
    refused(path, "observations", "in other files")
    (tmp_path / "raw.bin").write_bytes(bytes(12 * 3 * 4))
    path = d4rl_file(tmp_path / "external.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (12, 3), np.float32, external=[(str(tmp_path / "raw.bin"), 0, 144)])
    refused(path, "observations", "in other files")


def test_a_filter_that_is_not_here_is_named(tmp_path):
    path = d4rl_file(tmp_path / "data.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4, 3))
        made.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((12, 3))
        h5py.h5d.create(file.id, b"observations", h5py.h5t.NATIVE_FLOAT, space, made)
    refused(path, "observations", "32099", "h5repack")


@pytest.mark.parametrize("values", [np.array([b"text"] * 12), np.zeros(12, [("a", "f4")])], ids=["text", "structure"])
def test_what_is_no_number_is_named(tmp_path, values):
    refused(d4rl_file(tmp_path / "data.hdf5", observations=values), "observations", "plain numbers")


def test_rows_that_were_never_written_are_not_taken_for_zeros(tmp_path):
    path = d4rl_file(tmp_path / "data.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (12, 3), np.float32, chunks=(4, 3))[:8] = 1
    refused(path, "observations", "2 of 3 chunks")


def test_a_size_beyond_the_machine_is_refused_before_it_is_taken(tmp_path):
    path = d4rl_file(tmp_path / "data.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (1 << 50, 3), np.float32, chunks=(1 << 10, 3))
    refused(path)


def test_a_pipe_or_a_link_out_of_the_folder_is_no_file(tmp_path, copied):
    import os

    place = copied("minari/box-hdf5")
    file = place / "data" / "main_data.hdf5"
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "main_data.hdf5")
    file.symlink_to(moved)
    with pytest.raises(DatasetError, match=r"main_data.hdf5.*out of its folder"):
        open_dataset(place)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DatasetError, match=r"main_data.hdf5.*no plain file"):
        open_dataset(place)


def test_a_layout_that_makes_windows_dear_is_named_with_its_numbers(tmp_path):
    frames = np.zeros((400, 16, 16, 3), np.uint8)
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("pixels", data=frames, chunks=(400, 16, 16, 3))
        file["action"] = np.zeros((400, 2), np.float32)
        file["step_idx"] = np.tile(np.arange(200), 2)
        file["ep_len"], file["ep_offset"] = np.array([200, 200]), np.array([0, 200])
    remark = next(one for one in open_dataset(path, format="swm").remarks if "pixels" in one)
    assert "12.3 KB" in remark and "307 KB" in remark and "400 rows" in remark


def test_a_chunk_a_row_is_named_once_for_all_small_columns(sets):
    remarks = [one for one in open_dataset(sets / "swm/hdf5-main").remarks if "chunks" in one]
    assert len(remarks) == 2
    assert "pixels" in remarks[0] and "768 bytes" in remarks[0]
    assert "observation" in remarks[1] and "pixels" not in remarks[1]


def test_chunks_of_a_row_are_counted_over_all_episodes(copied):
    place = copied("robomimic/gaps-in-numbers")
    with h5py.File(place / "data.hdf5", "a") as file:
        for demo in file["data"].values():
            values = demo["obs/state"][:]
            del demo["obs/state"]
            demo["obs"].create_dataset("state", data=values, chunks=(1, 4))
    assert not any("chunks" in remark for remark in open_dataset(place).remarks)  # 12 are few
    with h5py.File(place / "data.hdf5", "a") as file:
        for demo in file["data"].values():
            values = demo["actions"][:]
            del demo["actions"]
            demo.create_dataset("actions", data=values, chunks=(1, 2))
    assert any("24 chunks" in remark for remark in open_dataset(place).remarks)


@pytest.mark.parametrize("locking", [True, False])
def test_another_reader_may_have_the_file_open(tmp_path, locking):
    images = np.arange(12, dtype=np.uint8).repeat(6 * 8 * 3).reshape(12, 6, 8, 3)
    path = d4rl_file(tmp_path / "data.hdf5", observations=images)
    with h5py.File(path, "r", locking=locking):
        recording = open_dataset(path).recording
        first = recording.read("obs/obs", 0, 0, 3)
    recording.close()
    assert [int(row.max()) for row in first] == [0, 1, 2]
    assert (recording.read("obs/obs", 0, 0, 3) == first).all()
    with h5py.File(path, "r"):
        pass


def frame(recording, queue) -> None:
    queue.put(recording.read("obs/agentview_image", 1, 2, 3))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_another_process_opens_the_file_anew(sets):
    recording = open_dataset(sets / "robomimic/no-next-obs").recording
    here = recording.read("obs/agentview_image", 1, 2, 3)
    processes = multiprocessing.get_context("fork")
    queue = processes.Queue()
    process = processes.Process(target=frame, args=(recording, queue))
    process.start()
    there = queue.get(timeout=30)
    process.join()
    assert (there == here).all() and (recording.read("obs/agentview_image", 1, 2, 3) == here).all()
    assert (pickle.loads(pickle.dumps(recording)).read("obs/agentview_image", 1, 2, 3) == here).all()


def test_a_closed_recording_opens_again(sets):
    recording = open_dataset(sets / "robomimic/no-next-obs").recording
    before = recording.read("obs/agentview_image", 0, 0, 6, 2)
    recording.close()
    assert (recording.read("obs/agentview_image", 0, 0, 6, 2) == before).all()


def test_without_the_extra_the_way_to_it_is_said(sets, monkeypatch):
    from worldflux.core.errors import ConfigurationError

    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'worldflux-core\[data\]'"):
        open_dataset(sets / "d4rl/flat", format="d4rl")
