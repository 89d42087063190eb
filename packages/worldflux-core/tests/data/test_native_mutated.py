"""A dataset that something has happened to is refused by name, or reads as before: never other numbers."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import CheckpointError, WorldFluxError
from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import DatasetWriter, open_dataset
from worldflux.data.npy import map_npy

OBS = {"image": ModalitySpec("image", (3, 8, 8), "uint8"), "state": ModalitySpec("vector", (2,))}


def episode(number: int, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    action = np.eye(2)[rng.integers(0, 2, rows)]
    state, image = rng.random((rows, 2)), rng.integers(0, 256, (rows, 3, 8, 8), np.uint8)
    return {"obs/state": state, "obs/image": image, "action": action, "reward": np.r_[0, rng.random(rows - 1)]}


def contents(place: Path, **options) -> dict[str, dict[str, bytes]]:
    dataset = open_dataset(place, **options)
    dataset.windows(2).sample(4)
    read = {name: dataset.episode(index) for index, name in enumerate(dataset.episodes.ids)}
    return {name: {column: rows.tobytes() for column, rows in columns.items()} for name, columns in read.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    pytest.importorskip("zstandard")
    place = tmp_path_factory.mktemp("data") / "set"
    with DatasetWriter(place, OBS, ActionSpec("discrete", 2), images="zstd", shard_bytes=5000) as writer:
        for number in range(4):
            writer.append(episode(number, 9 + 7 * number), terminal=number == 1)
    return place


CHANGES = {
    "a bit": lambda data, at, draw: data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :],
    "the end": lambda data, at, draw: data[:at],
    "bytes between": lambda data, at, draw: data[:at] + draw.randbytes(3) + data[at:],
    "bytes behind": lambda data, at, draw: data + draw.randbytes(5),
    "zeros": lambda data, at, draw: data[:at] + bytes(len(data[at : at + 8])) + data[at + 8 :],
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_a_file_gives_other_numbers_or_a_traceback(place, tmp_path, change) -> None:
    draw, expected, refused = random.Random(change), contents(place), []
    files = sorted(file.relative_to(place) for file in place.rglob("*") if file.is_file())
    for file in draw.sample(files, 8):
        copy = tmp_path / "copy"
        shutil.copytree(place, copy)
        data = (copy / file).read_bytes()
        (copy / file).write_bytes(CHANGES[change](data, draw.randrange(len(data)), draw))
        for verify in (True, False):
            try:
                assert contents(copy, verify=verify) == expected, file
            except WorldFluxError as error:
                refused.append(str(error))
        shutil.rmtree(copy)
    assert refused and all(str(tmp_path) in said for said in refused)


def test_an_array_of_six_bytes_is_refused(tmp_path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CheckpointError, match="no array of plain numbers"):
        map_npy(tmp_path / "a.npy", "a")


def test_a_dataset_is_read_while_another_appends(tmp_path) -> None:
    place, failed, ended = tmp_path / "set", [], threading.Event()
    expected = {f"{number:08d}": number for number in range(9)}
    writer = DatasetWriter(place, OBS, ActionSpec("discrete", 2))
    writer.append(episode(0, 5))
    writer.seal()

    def read() -> None:
        while not ended.is_set():
            dataset = open_dataset(place)
            name = dataset.episodes.ids[-1]
            shown = dataset.episode(len(dataset.episodes) - 1)["obs/state"]
            if not np.array_equal(shown, episode(expected[name], 5)["obs/state"].astype(np.float32)):
                failed.append(name)

    reader = threading.Thread(target=read)
    reader.start()
    with writer:
        for number in range(1, 9):
            writer.append(episode(number, 5))
            writer.seal()
    ended.set()
    reader.join()
    assert not failed and len(open_dataset(place).episodes) == 9
