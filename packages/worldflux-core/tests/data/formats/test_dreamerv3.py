"""Chunks of a DreamerV3 replay: stitched by successor, never over a gap; dreamerv3-torch's episodes, shifted."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.data import DatasetError, open_dataset
from worldflux.data.formats.common import kept

CHUNK = "20260101T000000F{:06d}-{}-{}-{}.npz"


def rows(length: int, *, seed: int = 0, ended: bool = True, terminal: bool = False, **more):
    rng = np.random.default_rng(seed)
    out = {
        "vector": rng.normal(size=(length, 3)).astype(np.float32),
        "image": rng.integers(0, 255, (length, 5, 6, 3), np.uint8),
        "reward": np.arange(length, dtype=np.float32),
        "action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        "is_first": np.arange(length) == 0,
        "is_last": (np.arange(length) == length - 1) & ended,
        "is_terminal": (np.arange(length) == length - 1) & terminal,
        "stepid": np.zeros((length, 20), np.uint8),
    }
    return out | more


def together(episodes):
    return {name: np.concatenate([one[name] for one in episodes]) for name in episodes[0]}


def chunks(folder, stream, cuts, *, name="w", time=0):
    """Write a stream as chunks that end at ``cuts``; returns the files."""
    folder.mkdir(exist_ok=True)
    total, files = len(stream["is_first"]), []
    edges = [0, *cuts, total]
    for i, (start, stop) in enumerate(zip(edges, edges[1:])):
        file = folder / CHUNK.format(time + i, f"{name}{i}", f"{name}{i + 1}", stop - start)
        np.savez_compressed(file, **{key: value[start:stop] for key, value in stream.items()})
        files.append(file)
    return files


def test_episodes_are_whole_wherever_chunks_are_cut(tmp_path):
    episodes = [rows(7, seed=1, terminal=True), rows(11, seed=2), rows(1, seed=3), rows(5, seed=4)]
    chunks(tmp_path / "d", together(episodes), [3, 4, 18, 19])
    data = open_dataset(tmp_path / "d")
    assert data.episodes.lengths.tolist() == [7, 11, 1, 5]
    assert data.episodes.terminal.tolist() == [True, False, False, False]
    for i, episode in enumerate(episodes):
        got = data.episode(i)
        assert (got["obs/vector"] == episode["vector"]).all() and (got["reward"] == episode["reward"]).all()
        assert (got["obs/image"] == np.moveaxis(episode["image"], -1, 1)).all()
        assert (got["action"][:-1] == episode["action"][:-1]).all()


def test_the_chunks_of_several_workers_are_told_apart(tmp_path):
    first, second = [rows(6, seed=1), rows(4, seed=2)], [rows(5, seed=3), rows(8, seed=4)]
    chunks(tmp_path / "d", together(first), [4, 8], name="a", time=0)
    chunks(tmp_path / "d", together(second), [2, 6, 9], name="b", time=1)
    data = open_dataset(tmp_path / "d")
    assert data.episodes.lengths.tolist() == [6, 4, 5, 8]
    assert (data.episode(3)["obs/vector"] == second[1]["vector"]).all()


def test_what_a_missing_chunk_cut_is_dropped_and_said(tmp_path):
    episodes = [rows(6, seed=1), rows(9, seed=2), rows(4, seed=3)]
    files = chunks(tmp_path / "d", together(episodes), [8, 12])
    files[1].unlink()
    data = open_dataset(tmp_path / "d")
    assert data.episodes.lengths.tolist() == [6, 2, 4]  # the second as far as it goes, the rest of it not
    assert (data.episode(1)["obs/vector"] == episodes[1]["vector"][:2]).all()
    assert any("1 episode (3 rows) has lost its beginning" in one for one in data.remarks)
    assert any("cut by a missing chunk" in one for one in data.remarks)


def test_a_piece_without_its_beginning_can_be_kept_and_pays_nothing_in_its_first_row(tmp_path):
    files = chunks(tmp_path / "d", rows(9), [4])
    files[0].unlink()
    with pytest.raises(DatasetError, match="no episode begins in these chunks; cut='keep'"):
        open_dataset(tmp_path / "d")
    data = open_dataset(tmp_path / "d", cut="keep")
    assert data.episode(0)["reward"].tolist() == [0, 5, 6, 7, 8]
    assert data.episode(0)["is_first"].tolist() == [True, False, False, False, False]


def test_an_episode_that_was_abandoned_ends_where_the_next_begins(tmp_path):
    chunks(tmp_path / "d", together([rows(5, ended=False), rows(6, seed=1)]), [])
    data = open_dataset(tmp_path / "d")
    assert data.episodes.lengths.tolist() == [5, 6]
    assert data.episode(0)["is_last"].tolist() == [False] * 4 + [True] and not data.episodes.terminal.any()


def test_an_index_that_was_chosen_in_an_unfinished_last_row_is_kept(tmp_path):
    chunks(tmp_path / "d", rows(5, ended=False, action=np.array([0, 3, 1, 0, 2], np.int32)), [])
    data = open_dataset(tmp_path / "d", num_actions=6)
    assert data.action_spec.num_actions == 6
    assert data.episode(0)["action"].argmax(1).tolist() == [0, 3, 1, 0, 2]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([("a", "b"), ("b", "a")], "ring"),
        ([("a", "c"), ("b", "c"), ("c", "x")], "follows"),
        ([("a", "b"), ("a", "c")], "has the same id a"),
        ([("a", "a")], "ring"),
    ],
)
def test_chunks_that_do_not_hang_together_are_refused_by_name(tmp_path, names, said):
    for i, (own, successor) in enumerate(names):
        np.savez(tmp_path / CHUNK.format(i, own, successor, 4), **rows(4))
    with pytest.raises(DatasetError, match=said) as refused:
        open_dataset(tmp_path)
    assert "20260101T" in str(refused.value)


def test_a_file_among_the_chunks_that_is_none_is_refused_by_name(tmp_path):
    chunks(tmp_path / "d", rows(4), [])
    np.savez(tmp_path / "d" / "mine.npz", a=np.zeros(3))
    with pytest.raises(DatasetError, match=r"mine\.npz: its name is not"):
        open_dataset(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_terminal": np.arange(6) == 2}, "row 2: is_terminal, but not is_last"),
        ({"is_last": np.arange(6) == 3}, "row 4: the row before it is an episode's last"),
        ({"reward": np.float32([0, 1, np.nan, 3, 4, 5])}, "row 2: reward is nan"),
        ({"action": np.full((6, 2), np.inf, np.float32)}, "row 0: action is inf"),
        ({"vector": np.full((6, 3), 1e300)}, r"row 0: vector is 1e\+300"),
    ],
)
def test_flags_and_numbers_that_cannot_be_are_refused_with_their_row(tmp_path, change, said):
    files = chunks(tmp_path / "d", rows(6) | change, [])
    with pytest.raises(DatasetError, match=said) as refused:
        open_dataset(tmp_path / "d")
    assert files[0].name in str(refused.value)


def test_latents_may_come_and_go_and_are_left_out(tmp_path):
    stream = rows(8)
    files = chunks(tmp_path / "d", stream, [4])
    held = dict(np.load(files[1])) | {"dyn/deter": np.zeros((4, 16), np.float32), "log/x": np.zeros(4)}
    np.savez(files[1], **held)
    data = open_dataset(tmp_path / "d")
    assert set(data.obs_spec) == {"vector", "image"}
    assert any("dyn/deter" in one for one in data.remarks)


def test_no_more_images_are_kept_than_there_is_room_for(tmp_path, monkeypatch):
    chunks(tmp_path / "d", rows(40), [10, 20, 30])
    monkeypatch.setattr(kept, "ROOM", 2 * 10 * 5 * 6 * 3)
    data = open_dataset(tmp_path / "d")
    whole = data.episode(0)["obs/image"]
    assert len(data.recording.sources["obs/image"].kept) == 2
    assert (data.recording.read("obs/image", 0, 5, 36, 7) == whole[5:36:7]).all()
    assert data.windows(12).sample(3).obs["image"].shape == (3, 12, 3, 5, 6)
    data.recording.close()
    assert not data.recording.sources["obs/image"].kept


def test_an_image_that_is_damaged_is_named_when_it_is_read_if_the_folder_is_large(tmp_path, monkeypatch):
    from worldflux.data.formats.common import npz_files

    noise = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    files = chunks(tmp_path / "d", rows(8, image=noise), [4])
    data = bytearray(files[1].read_bytes())
    data[data.index(b"image.npy") + 400] ^= 1
    files[1].write_bytes(data)
    with pytest.raises(DatasetError, match="not a readable .npz"):
        open_dataset(tmp_path / "d")
    monkeypatch.setattr(npz_files, "CHECKED_AT_OPEN", 100)
    opened = open_dataset(tmp_path / "d")
    assert len(opened.recording.read("obs/image", 0, 0, 4)) == 4
    with pytest.raises(DatasetError, match=files[1].name):
        opened.recording.read("obs/image", 0, 2, 6)


# -- dreamerv3-torch ---------------------------------------------------------------------------------------------------


def torch_episode(folder, length, *, uuid="ab12", drop=(), **change):
    held = {name: value for name, value in rows(length).items() if name != "stepid" and name not in drop}
    held |= {"discount": np.ones(length, np.float32), "logprob": np.zeros(length, np.float32)}
    file = folder / f"20260101T000000-{uuid}-{length}.npz"
    np.savez_compressed(file, **held | change)
    return file, held | change


def test_the_action_that_led_to_a_row_is_the_one_done_before(tmp_path):
    _, held = torch_episode(tmp_path, 6, drop=("is_last", "is_terminal"))
    data = open_dataset(tmp_path)
    assert data.recording.format == "dreamerv3-torch"
    got = data.episode(0)
    assert (got["action"][:-1] == held["action"][1:]).all() and not got["action"][-1].any()
    assert got["is_last"].tolist() == [False] * 5 + [True] and not got["is_terminal"].any()


@pytest.mark.parametrize("column", ["discount", "is_terminal"])
def test_a_last_discount_of_zero_is_an_end_in_truth(tmp_path, column):
    end = np.arange(6) == 5
    torch_episode(tmp_path, 6, **{column: end if column == "is_terminal" else 1 - end.astype(np.float32)})
    assert open_dataset(tmp_path).episodes.terminal.tolist() == [True]


def test_one_hot_actions_are_classes_unless_the_user_says_they_are_not(tmp_path):
    one_hot = np.eye(4, dtype=np.float32)[[0, 1, 3, 2, 1, 1]]
    one_hot[0] = 0
    torch_episode(tmp_path, 6, action=one_hot)
    assert open_dataset(tmp_path).action_spec.num_actions == 4
    assert open_dataset(tmp_path, discrete=False).action_spec.kind == "continuous"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_first": np.arange(6) % 3 == 0}, "row 3: is_first is True"),
        ({"is_terminal": np.arange(6) == 2}, "row 2: is_terminal before the end"),
        ({"action": np.full((6, 2), np.nan, np.float32)}, "row 0: action is nan"),
        ({"state": np.zeros((5, 2))}, "'state' has 5 rows, its name says 6"),
    ],
)
def test_an_episode_that_contradicts_itself_is_refused_by_name(tmp_path, change, said):
    file, _ = torch_episode(tmp_path, 6, **change)
    with pytest.raises(DatasetError, match=said) as refused:
        open_dataset(tmp_path)
    assert file.name in str(refused.value) and "episode 0" in str(refused.value)
