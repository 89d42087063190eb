"""The folder of a dataset is shared with whatever lies there: nothing that is not a writer's own is ever removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.spec import ActionSpec, ModalitySpec
from worldflux.data import DatasetError, DatasetWriter, open_dataset
from worldflux.data.native import shards
from worldflux.data.native.page import PAGE

STATE = {"state": ModalitySpec("vector", (2,))}
ROWS = {"obs/state": np.ones((3, 2), np.float32), "action": np.zeros((3, 1)), "reward": np.zeros(3)}


def writer(place: Path) -> DatasetWriter:
    return DatasetWriter(place, STATE, ActionSpec("continuous", 1), mode="append")


def test_what_somebody_else_keeps_among_the_shards_stays(tmp_path: Path) -> None:
    own = [tmp_path / "shards" / name for name in ("a.tar", "000000.tar", "notes/today.txt", "000007/photo.jpg")]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    for _ in range(2):
        with writer(tmp_path) as made:
            made.append(ROWS)
    assert [file.read_text() for file in own] == ["mine"] * 4
    assert len(open_dataset(tmp_path)) == 6


def test_shards_whose_page_is_lost_are_not_taken_for_a_killed_writers(tmp_path: Path) -> None:
    with writer(tmp_path) as made:
        made.append(ROWS)
    page = (tmp_path / PAGE).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"dataset.json: it is missing, yet episodes.npy is there; take it from"):
        writer(tmp_path)
    page.rename(tmp_path / PAGE)
    assert len(open_dataset(tmp_path)) == 3


@pytest.mark.parametrize("broken", ["write_shard", "sync", "sha256"])
def test_a_seal_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch, broken) -> None:
    def full(*args):
        raise OSError(28, "No space left on device")

    made = writer(tmp_path / "set")
    made.append(ROWS)
    where = "worldflux.data.native.shards" if broken == "sync" else "worldflux.data.native.writer"
    with monkeypatch.context() as patched:
        patched.setattr(f"{where}.{broken}", full)
        with pytest.raises(DatasetError, match="could not seal 1 episode: .*No space left on device; none was sealed"):
            made.seal()
        with pytest.raises(DatasetError):
            made.close()
    assert not (tmp_path / "set").exists()


def test_a_stage_of_a_shard_is_told_from_other_folders_by_every_name_in_it(tmp_path: Path) -> None:
    (tmp_path / "000001").mkdir()
    (tmp_path / "000001/00-obs.npy").write_text("half")
    assert shards.is_shard(tmp_path / "000001")
    (tmp_path / "000001/more").mkdir()
    assert not shards.is_shard(tmp_path / "000001")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs/state": [[1.0, 2.0], [1.0]]}, "'obs/state' is no array of rows: setting an array element"),
        ({"reward": np.ma.array(np.zeros(3), mask=[0, 1, 0])}, "'reward' has masked values"),
        ({"obs/state": torch.ones(3, 2, requires_grad=True)}, "'obs/state' is no array of rows: Can't call numpy"),
        (
            {"obs/state": np.full((3, 2), 2**24 + 1)},
            "row 0: obs/state is 16777217; every number must be one that float32",
        ),
        ({"is_last": np.array([[0], [0], [1]])}, r"'is_last' has shape \(3, 1\), expected \(3,\)"),
    ],
)
def test_columns_that_are_no_arrays_of_rows_are_refused_by_name(tmp_path: Path, changes, message) -> None:
    with writer(tmp_path) as made, pytest.raises(DatasetError, match=f"episode first(: |, ){message}"):
        made.append(ROWS | changes, id="first")
