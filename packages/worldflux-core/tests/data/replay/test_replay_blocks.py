"""A replay's blocks: each is written once, whatever changed is written anew, and it goes on exactly from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import CheckpointError
from worldflux.data import BatchRequest
from worldflux.data.replay import blocks
from worldflux.data.replay.blocks import BlockFolder
from worldflux.files import sha256

SIZE = 6  # rows of a block in each of the two streams


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", SIZE * 2 * 24)


@pytest.fixture
def bare(make_replay, monkeypatch):
    """A factory of replays of 100 rows a stream without latents."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", SIZE * 2 * 16)
    return lambda: make_replay(200, latent_spec=None)


def described(folder: Path) -> dict:
    return {file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for file in folder.glob("*")}


def save(replay, folder: Path, before: Path | None = None):
    """The state and the folder of a save, and the names of the files that were written anew."""
    into = BlockFolder(folder, before, described(before) if before else None)
    arrays, meta = replay.state_dict(into)
    new = {file.name for file in folder.glob("*")} - set(into.carried)
    return arrays, json.loads(json.dumps(meta)), new


def load(replay, arrays, meta, folder: Path):
    replay.load_state_dict(arrays, meta, BlockFolder(folder))
    return replay


def equal(one, two, length: int = 3) -> bool:
    left, right = (dict(replay.sample(BatchRequest(9, length)).tensors()) for replay in (one, two))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("rows", [0, 1, 6, 7, 19, 20, 21, 26, 53])
def test_a_replay_goes_on_from_its_blocks_bit_for_bit(make_replay, fill, tmp_path, rows):
    options = {"boundary": "within", "online": True, "sequence_length": 4}
    replay, other = make_replay(**options), make_replay(seed=9, **options)
    fill(replay, rows)
    fill(other, 8)  # which is replaced
    arrays, meta, _ = save(replay, tmp_path / "a")
    assert not any(name.startswith(("obs/", "latent/", "is_")) for name in arrays)
    load(other, arrays, meta, tmp_path / "a")
    for step in range(4):
        fill(replay, 9, start=rows + 9 * step)
        fill(other, 9, start=rows + 9 * step)
        assert equal(replay, other, 4)


def test_only_what_is_new_is_written(bare, fill, tmp_path):
    replay = bare()
    fill(replay, 60)
    _, _, first = save(replay, tmp_path / "a")
    assert len(first) == 10
    fill(replay, 7, start=60)
    _, meta, second = save(replay, tmp_path / "b", tmp_path / "a")
    assert len(meta["blocks"]["rows"]) == 12
    assert len(second) == 2  # a block and a row
    assert all(
        (tmp_path / "b" / name).samefile(tmp_path / "a" / name) for name in described(tmp_path / "b").keys() - second
    )


def test_what_is_saved_depends_on_the_replay_and_not_on_earlier_saves(make_replay, fill, tmp_path):
    often, once = make_replay(), make_replay()
    before = None
    for step in range(9):
        fill(often, 7, start=7 * step)
        fill(once, 7, start=7 * step)
        _, meta, _ = save(often, tmp_path / str(step), before)
        before = tmp_path / str(step)
    _, other, _ = save(once, tmp_path / "once")
    assert meta == other
    assert described(before) == described(tmp_path / "once")


def test_a_loaded_replay_refers_to_the_blocks_it_was_loaded_from(bare, fill, tmp_path, monkeypatch):
    replay = bare()
    fill(replay, 60)
    arrays, meta, _ = save(replay, tmp_path / "a")
    other = load(bare(), arrays, meta, tmp_path / "a")
    fill(other, 1, start=60)
    packed, real = [], blocks._packed
    monkeypatch.setattr(blocks, "_packed", lambda columns: packed.append(columns) or real(columns))
    _, _, new = save(other, tmp_path / "b", tmp_path / "a")
    assert len(new) == 1
    assert len(packed) == 2  # the block that was the newest, and the row after it: no other was even looked at


def test_latents_that_were_written_back_are_right_and_only_their_blocks_are_new(make_replay, fill, tmp_path):
    replay = make_replay(200, seed=1)
    fill(replay, 60)
    save(replay, tmp_path / "a")
    batch = replay.sample(BatchRequest(1, 3))
    replay.update(batch, {"h": torch.full((1, 3, 2), 7.5)})
    arrays, meta, new = save(replay, tmp_path / "b", tmp_path / "a")
    rows = batch.extras["wf.replay.index"][0] // 2
    changed = {f"{meta['blocks']['latents'][number][2]}.npy" for number in {int(row) // SIZE for row in rows}}
    assert new == changed
    other = load(make_replay(200), arrays, meta, tmp_path / "b")
    assert equal(replay, other)
    assert np.array_equal(other.state_dict()[0]["latent/h"], replay.state_dict()[0]["latent/h"])
    assert (other.state_dict()[0]["latent/h"] == 7.5).any()


def test_an_episode_that_is_cut_at_the_end_of_a_block_ends_there_after_loading(make_replay, fill, tmp_path):
    replay = make_replay(200)
    fill(replay, 2 * SIZE, lengths=(100,))
    save(replay, tmp_path / "a")
    replay.end_episodes()
    fill(replay, 3, lengths=(100,), start=0)
    arrays, meta, _ = save(replay, tmp_path / "b", tmp_path / "a")
    other = load(make_replay(200), arrays, meta, tmp_path / "b")
    assert other.state_dict()[0]["is_last"][:, 2 * SIZE - 1].all()


def test_a_block_that_is_half_overwritten_is_saved_without_its_lost_rows(make_replay, fill, tmp_path):
    replay = make_replay(40)  # 20 rows a stream
    fill(replay, 19)
    save(replay, tmp_path / "a")
    fill(replay, 4, start=19)
    arrays, meta, _ = save(replay, tmp_path / "b", tmp_path / "a")
    assert [block[:2] for block in meta["blocks"]["rows"]] == [[3, 6], [6, 12], [12, 18], [18, 23]]
    assert equal(replay, load(make_replay(40), arrays, meta, tmp_path / "b"))


def test_where_links_do_not_work_blocks_are_copied_and_a_damaged_one_is_written_anew(bare, fill, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError("no links here")

    monkeypatch.setattr(blocks.os, "link", refuse)
    replay = bare()
    fill(replay, 20)
    _, meta, _ = save(replay, tmp_path / "a")
    known = described(tmp_path / "a")
    file = tmp_path / "a" / f"{meta['blocks']['rows'][0][2]}.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    into = BlockFolder(tmp_path / "b", tmp_path / "a", known)
    arrays, meta = replay.state_dict(into)
    assert into.carried == {}
    assert described(tmp_path / "b") == known
    assert equal(replay, load(bare(), arrays, meta, tmp_path / "b"))


def test_a_block_that_is_gone_or_cut_is_written_anew(bare, fill, tmp_path):
    replay = bare()
    fill(replay, 20)
    _, meta, _ = save(replay, tmp_path / "a")
    known = described(tmp_path / "a")
    files = [tmp_path / "a" / f"{block[2]}.npy" for block in meta["blocks"]["rows"]]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1])
    replay.state_dict(BlockFolder(tmp_path / "b", tmp_path / "a", known))
    assert described(tmp_path / "b") == known


PAGES = {
    "a row is missing": lambda page: page["rows"].pop(0),
    "rows twice": lambda page: page["rows"].insert(0, page["rows"][0]),
    "no name": lambda page: page["rows"][0].__setitem__(2, "../../secret"),
    "a number for a name": lambda page: page["rows"][0].__setitem__(2, 7),
    "true for a row": lambda page: page["rows"][0].__setitem__(0, False),
    "no block": lambda page: page.__setitem__("rows", 3),
    "no latents": lambda page: page.pop("latents"),
    "no size": lambda page: page.pop("size"),
    "another's file": lambda page: page["rows"][0].__setitem__(2, page["latents"][0][2]),
    "a file that is not there": lambda page: page["rows"][0].__setitem__(2, "0" * 32),
}


@pytest.mark.parametrize("damage", PAGES)
def test_a_page_that_does_not_hold_the_rows_is_refused_and_nothing_changes(make_replay, fill, tmp_path, damage):
    replay, other = make_replay(200), make_replay(200)
    fill(replay, 20)
    fill(other, 2)
    arrays, meta, _ = save(replay, tmp_path / "a")
    PAGES[damage](meta["blocks"])
    with pytest.raises(CheckpointError):
        load(other, arrays, meta, tmp_path / "a")
    assert len(other) == 4


def test_blocks_that_are_not_given_are_asked_for(make_replay, fill, tmp_path):
    replay = make_replay()
    fill(replay, 20)
    arrays, meta, _ = save(replay, tmp_path / "a")
    with pytest.raises(CheckpointError, match="rows in blocks of a checkpoint, and they were not given"):
        make_replay().load_state_dict(arrays, meta)


@pytest.mark.parametrize("flag", [2, 255])
def test_flags_that_are_neither_true_nor_false_are_refused(bare, fill, tmp_path, flag):
    replay = bare()
    fill(replay, 5)
    arrays, meta, (name,) = save(replay, tmp_path / "a")
    file = tmp_path / "a" / name
    data = np.load(file)
    data[64] = flag  # the columns are in the order of their names, each at a multiple of 64 bytes
    np.save(file, data)
    with pytest.raises(CheckpointError, match="neither True nor False"):
        load(bare(), arrays, meta, tmp_path / "a")


def test_a_replay_that_was_never_full_goes_on_in_a_larger_one(make_replay, fill, tmp_path):
    replay = make_replay(40)
    fill(replay, 20)
    arrays, meta, _ = save(replay, tmp_path / "a")
    other, expected = load(make_replay(80), arrays, meta, tmp_path / "a"), make_replay(80)
    fill(other, 10, start=20)
    fill(expected, 30)
    rows, always = other.state_dict()[0], expected.state_dict()[0]
    assert all(np.array_equal(rows[name], always[name]) for name in always)
