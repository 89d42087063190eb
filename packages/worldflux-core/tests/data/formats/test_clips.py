"""Folders of clips with a table of actions: frames by their place, actions by theirs, faults by name."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset

pytest.importorskip("av")

from ..films import shown, write_film

ACTIONS = {"b.mp4": [[0.5, -1], [1, 0.25]], "a.mp4": [[0, 0], [0.1, 0.2], [0.3, 0.4]]}


def write_clips(folder, actions=ACTIONS, *, head=("turn", "push"), lines=(), films=True):
    folder.mkdir(exist_ok=True)
    for name, rows in actions.items() if films else ():
        write_film(folder / name, len(rows) + 1)
    with (folder / "actions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "frame", *head])
        for name, rows in actions.items():
            writer.writerows([name, frame, *row] for frame, row in enumerate(rows))
        writer.writerows(lines)
    return folder


def test_episodes_come_in_the_tables_order_whatever_the_columns_are_called(tmp_path):
    data = open_dataset(write_clips(tmp_path / "set"))
    assert data.episodes.ids == ("b.mp4", "a.mp4") and data.episodes.lengths.tolist() == [3, 4]
    rows = data.episode(0)
    np.testing.assert_allclose(rows["action"], [[0.5, -1], [1, 0.25], [0, 0]])
    assert shown(rows["obs/video"]) == [0, 1, 2] and "reward" not in rows
    assert not data.has_rewards and not data.episodes.terminal.any()


def test_only_the_frames_asked_for_are_decoded(tmp_path):
    data = open_dataset(write_clips(tmp_path / "set", {"a.mp4": [[0]] * 79}, head=("turn",)))
    videos = data.recording.sources["obs/video"].videos
    assert videos.decoded == 0
    assert shown(data.recording.read("obs/video", 0, 32, 40)) == list(range(32, 40))
    assert videos.decoded <= 8 + 4


def test_rewards_are_paid_on_arriving_at_the_next_frame(tmp_path):
    rewards = {"a.mp4": [[0.0, 1], [0.5, 2]]}
    data = open_dataset(write_clips(tmp_path / "set", rewards, head=("turn", "reward")))
    assert data.episode(0)["reward"].tolist() == [0, 1, 2] and data.action_spec.dim == 1


def test_rows_may_stand_in_any_order_and_the_last_frame_may_have_an_empty_one(tmp_path):
    lines = [["a.mp4", 2, "", ""], ["a.mp4", 1, 3, 4], ["a.mp4", 0, 1, 2]]
    write_film(tmp_path / "set" / "a.mp4", 3)
    data = open_dataset(write_clips(tmp_path / "set", {}, lines=lines))
    assert data.episode(0)["action"].tolist() == [[1, 2], [3, 4], [0, 0]]


def test_frames_unevenly_apart_are_found_by_their_place(tmp_path):
    image = pytest.importorskip("PIL.Image")
    frames = [image.new("RGB", (16, 16), (20 + 5 * k,) * 3) for k in range(6)]
    write_clips(tmp_path / "set", {"a.gif": [[0]] * 5}, head=("turn",), films=False)
    durations = [50, 400, 50, 50, 1000, 100]
    frames[0].save(tmp_path / "set/a.gif", save_all=True, append_images=frames[1:], duration=durations)
    data = open_dataset(tmp_path / "set")
    assert shown(data.recording.read("obs/video", 0, 0, 6)) == list(range(6))
    assert shown(data.recording.read("obs/video", 0, 1, 6, 2)) == [1, 3, 5]


def test_a_column_of_whole_numbers_is_classes(tmp_path):
    place = write_clips(tmp_path / "set", {"a.mp4": [[0], [2], [1]]}, head=("key",))
    assert open_dataset(place).action_spec.num_actions == 3
    assert open_dataset(place, num_actions=4).episode(0)["action"][1].tolist() == [0, 0, 1, 0]
    with pytest.raises(ConfigurationError, match="go together"):
        open_dataset(place, action_low=0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["a.mp4", 1, 0, 0], r"episode 1, row 1: line 7 is the second"),
        (["a.mp4", 4, 0, 0], r"episode 1, row 3: 'a.mp4': no row has this frame"),
        (["a.mp4", 3, 0], r"episode 1: line 7 has 3 cells under 4 columns"),
        (["a.mp4", 3, 0, "nan"], r"episode 1, row 3: line 7: push is 'nan', expected a number"),
        (["a.mp4", 3, "1_0", 0], r"episode 1, row 3: line 7: turn is '1_0'"),
        (["a.mp4", 3, "", 0], r"episode 1, row 3: line 7: turn is ''"),
        (["a.mp4", -1, 0, 0], r"episode 1: line 7: the frame is '-1'"),
        (["c.mp4", 0, 0, 0], r"c\.mp4, episode 2: it is not there"),
        (["/etc/c.mp4", 0, 0, 0], r"episode 2: names the file '/etc/c.mp4', which is not in the dataset's folder"),
        (["./a.mp4", 0, 0, 0], r"names one clip in two ways"),
        (["c.txt", 0, 0, 0], r"c\.txt, episode 2: it is not there"),
    ],
)
def test_a_fault_in_the_table_is_named_by_episode_and_row(tmp_path, line, said):
    with pytest.raises(DatasetError, match=said):
        open_dataset(write_clips(tmp_path / "set", lines=[line]))


@pytest.mark.parametrize(
    ("frames", "said"), [(3, "row 3: has 3 frames, its episode has 4"), (5, "row 4: has 5 frames")]
)
def test_a_clip_of_another_length_than_its_actions_is_refused(tmp_path, frames, said):
    place = write_clips(tmp_path / "set")
    write_film(place / "a.mp4", frames)
    with pytest.raises(DatasetError, match=rf"a\.mp4, episode 1, {said}"):
        open_dataset(place)


def test_clips_of_two_sizes_and_clips_without_actions_are_refused(tmp_path):
    place = write_clips(tmp_path / "set")
    write_film(place / "a.mp4", 4, size=(32, 64))
    with pytest.raises(DatasetError, match=r"a\.mp4, episode 1: its frames are 32 x 64, those before 32 x 48"):
        open_dataset(place)
    write_film(place / "a.mp4", 4)
    write_film(place / "d.mp4", 4)
    with pytest.raises(DatasetError, match=r"no row for 1 clip here, such as d\.mp4"):
        open_dataset(place)


def test_a_gif_cut_anywhere_is_refused(copied):
    place = copied("clips/gif")
    whole = (place / "clip_000.gif").read_bytes()
    for length in range(0, len(whole), 7):
        (place / "clip_000.gif").write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"clip_000\.gif, episode 0"):
            open_dataset(place)


def test_a_cell_that_is_no_number_is_named_shortly_however_long_it_is(tmp_path):
    place = write_clips(tmp_path / "set", {"a.mp4": [["7" + "x" * 5000]]}, head=("turn",), films=False)
    with pytest.raises(DatasetError, match="turn is '7xxx") as refused:
        open_dataset(place)
    assert len(str(refused.value)) < 500
