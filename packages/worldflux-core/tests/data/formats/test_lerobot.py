"""LeRobotDatasets: what is read and when, what the columns become, and which faults are named."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind
from worldflux.data import DatasetError, open_dataset
from worldflux.data.formats.lerobot import episodes, rows
from worldflux.data.formats.lerobot.frames import VideoFrames

pytest.importorskip("pyarrow")
pytest.importorskip("av")

from ..films import SHAPE, shown, write_film
from .lerobot_writer import change_json, change_table, write_lerobot

LENGTHS = (5, 3, 8)
RNG = np.random.default_rng(0)


def numbers(**more):
    frames = sum(LENGTHS)
    reward = np.concatenate([np.arange(1, n + 1) for n in LENGTHS]).astype(np.float32)
    state = RNG.standard_normal((frames, 4)).astype(np.float32)
    actions = RNG.uniform(-1, 1, (frames, 2)).astype(np.float32)
    return {"observation.state": state, "action": actions, "next.reward": reward} | more


def ends(lengths=LENGTHS):
    return np.concatenate([np.arange(n) == n - 1 for n in lengths])


def test_only_the_frames_asked_for_are_decoded(sets):
    data = open_dataset(sets / "lerobot/v3-video-h264-2cams")
    videos = data.recording.sources["obs/front"].videos
    assert videos.decoded == 0, "opening decodes nothing"
    frames = data.recording.read("obs/front", 2, 10, 14)
    assert frames.shape == (4, 3, 32, 48) and frames.dtype == np.uint8
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [120, 130, 140, 150], atol=3)
    assert videos.decoded <= 4 + 4, "four frames, the keyframe before, and what the decoder holds back"


def test_a_camera_that_is_not_asked_for_need_not_be_there(copied):
    place = copied("lerobot/v3-video-h264-2cams")
    shutil.rmtree(place / "videos/observation.images.wrist")
    with pytest.raises(DatasetError, match=r"file-000\.mp4"):
        open_dataset(place)
    for name in ("front", "observation.images.front"):
        assert list(open_dataset(place, cameras=[name]).obs_spec) == ["state", "front"]
    assert list(open_dataset(place, cameras=[]).obs_spec) == ["state"]


def test_a_camera_of_other_channels_is_named_and_can_be_left_out(copied):
    place = copied("lerobot/v3-images")
    features = json.loads((place / "meta/info.json").read_text())["features"]
    features["observation.image"]["shape"] = [16, 24, 4]
    change_json(place / "meta/info.json", features=features)
    with pytest.raises(DatasetError, match=r"'observation\.image' has pictures of shape \[16, 24, 4\].*cameras="):
        open_dataset(place)
    assert list(open_dataset(place, cameras=[]).obs_spec) == ["state"]


def test_an_unknown_camera_is_answered_with_the_nearest(sets):
    with pytest.raises(ConfigurationError, match=r"has front, wrist.*Did you mean 'front'"):
        open_dataset(sets / "lerobot/v3-video-h264-2cams", cameras=["fornt"])
    with pytest.raises(ConfigurationError, match="expected a list"):
        open_dataset(sets / "lerobot/v3-video-h264-2cams", cameras="front")


@pytest.mark.parametrize("files", [(0, 0, 0), (0, 1, 2), (0, 0, 1), (0, 1, 1)])
def test_episodes_are_found_wherever_the_files_are_cut(tmp_path, files):
    key = "observation.images.top"
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers(), files=files, cameras={key: (32, 48, 3)})
    write_film(place / f"videos/{key}/chunk-000/file-000.mp4", sum(LENGTHS))
    data = open_dataset(place)
    first = 0
    for episode, length in enumerate(LENGTHS):
        rows = data.episode(episode)
        assert rows["reward"].tolist() == list(range(length + 1))
        assert shown(rows["obs/top"]) == [*range(first, first + length), first + length - 1]
        first += length


def test_the_last_reward_stands_in_a_row_that_repeats_the_observation(tmp_path):
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers())
    kept, strict = open_dataset(place), open_dataset(place, tail="drop")
    assert kept.episodes.lengths.tolist() == [6, 4, 9] and kept.episodes.stand_in.all()
    assert strict.episodes.lengths.tolist() == [5, 3, 8] and not strict.episodes.stand_in.any()
    rows = kept.episode(1)
    assert (rows["obs/state"][-1] == rows["obs/state"][-2]).all() and (rows["action"][-1] == 0).all()
    assert strict.episode(1)["reward"].tolist() == [0, 1, 2]
    assert any("repeats" in one for one in kept.remarks) and any("left out" in one for one in strict.remarks)


def test_without_rewards_nothing_stands_in_unless_asked(tmp_path):
    own = numbers()
    del own["next.reward"]
    place = write_lerobot(tmp_path / "set", LENGTHS, own)
    assert len(open_dataset(place)) == sum(LENGTHS) and not open_dataset(place).has_rewards
    assert len(open_dataset(place, tail="stand_in")) == sum(LENGTHS) + 3


def test_done_is_an_end_in_truth_only_as_far_as_one_says_so(tmp_path):
    success = ends() & np.repeat([True, False, False], LENGTHS)
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers(**{"next.done": ends(), "next.success": success}))
    terminal = {one: open_dataset(place, ends=one).episodes.terminal.tolist() for one in ("unknown", "success", "done")}
    assert terminal == {"unknown": [False] * 3, "success": [True, False, False], "done": [True] * 3}
    assert any("none of 3 is taken" in one and "1 with next.success" in one for one in open_dataset(place).remarks)
    assert open_dataset(place, ends="done").episode(0)["is_terminal"].tolist() == [False] * 5 + [True]
    assert not open_dataset(place, ends="done", tail="drop").episodes.terminal.any()
    with pytest.raises(ConfigurationError, match=r"next\.success"):
        open_dataset(write_lerobot(tmp_path / "other", LENGTHS, numbers()), ends="success")


def test_features_of_one_number_of_many_axes_and_of_flags_keep_their_numbers(tmp_path):
    frames = sum(LENGTHS)
    grid = RNG.standard_normal((frames, 2, 3)).astype(np.float32)
    own = numbers(**{
        "action": RNG.uniform(-1, 1, frames).astype(np.float32), "observation.grid": grid,
        "observation.touch": RNG.random(frames) > 0.5, "gripper.width": np.arange(frames),
    })  # fmt: skip
    data = open_dataset(write_lerobot(tmp_path / "set", LENGTHS, own), tail="drop")
    rows = data.episode(0)
    assert data.action_spec.dim == 1 and (rows["action"][:, 0] == own["action"][:5]).all()
    assert (rows["obs/grid"] == grid[:5].reshape(5, 6)).all() and data.obs_spec["grid"].shape == (6,)
    assert (rows["obs/touch"][:, 0] == own["observation.touch"][:5]).all()
    assert rows["info/gripper_width"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.obs_spec["touch"].kind is ModalityKind.VECTOR


def test_two_features_that_would_be_called_the_same_keep_their_whole_names(tmp_path):
    key = "observation.images.state"
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers(), cameras={key: (32, 48, 3)})
    write_film(place / f"videos/{key}/chunk-000/file-000.mp4", sum(LENGTHS))
    data = open_dataset(place)
    assert list(data.obs_spec) == ["observation_state", "observation_images_state"]
    assert data.episode(0)["obs/observation_images_state"].shape == (6, 3, 32, 48)


def test_tasks_are_numbers_in_the_rows_and_texts_in_the_provenance(sets):
    data = open_dataset(sets / "lerobot/v21-video")
    assert data.recording.provenance["tasks"] == {0: "count", 1: "count slowly"}
    assert [int(data.episode(i)["info/task"][0]) for i in range(3)] == [0, 1, 0]


def test_actions_stay_raw_and_are_scaled_by_bounds_or_by_the_sets_own_statistics(copied):
    place = copied("lerobot/v21-images")
    raw = open_dataset(place).episode(0)["action"]
    half = open_dataset(place, action_low=-2, action_high=[2, 4]).episode(0)["action"]
    np.testing.assert_allclose(half[:6], raw[:6] / [2, 3] + [0, -1 / 3], atol=1e-6)
    scaled = np.concatenate([open_dataset(place, action_scale="minmax").episode(i)["action"][:-1] for i in range(2)])
    np.testing.assert_allclose([scaled.min(0), scaled.max(0)], [[-1, -1], [1, 1]], atol=1e-6)
    (place / "meta/episodes_stats.jsonl").write_text('{"stats": {"action": {"min": [0]}}}')
    with pytest.raises(DatasetError, match=r"episodes_stats\.jsonl.*does not hold min"):
        open_dataset(place, action_scale="minmax")


def test_actions_outside_the_unit_box_are_remarked_and_whole_numbers_are_classes(tmp_path):
    own = numbers(action=np.full((16, 2), 3, np.float32))
    data = open_dataset(write_lerobot(tmp_path / "wide", LENGTHS, own))
    assert any("16 of 16 actions lie outside [-1, 1] (up to 3)" in one for one in data.remarks)
    place = write_lerobot(tmp_path / "classes", LENGTHS, numbers(action=np.arange(16) % 3))
    assert open_dataset(place).action_spec.num_actions == 3
    rows = open_dataset(place, num_actions=5).episode(0)["action"]
    assert (rows[:5] == np.eye(5)[[0, 1, 2, 0, 1]]).all() and (rows[5] == 0).all()
    with pytest.raises(ConfigurationError, match="num_actions is 2"):
        open_dataset(place, num_actions=2)
    place = write_lerobot(tmp_path / "flags", LENGTHS, numbers(action=np.arange(16) % 2 == 1))
    assert open_dataset(place).episode(0)["action"][1].tolist() == [0, 1]


def test_v20_is_read_as_v21(copied, check_expected):
    place = copied("lerobot/v21-images")
    change_json(place / "meta/info.json", codebase_version="v2.0")
    check_expected(open_dataset(place), place)


def test_pictures_in_tables_are_decoded_as_they_are_asked_for_also_after_pickling(sets):
    data = open_dataset(sets / "lerobot/v3-images")
    again = pickle.loads(pickle.dumps(data.recording))
    for recording in (data.recording, again):
        frames = recording.read("obs/image", 1, 2, 8, 3)
        np.testing.assert_allclose(frames.mean((1, 2, 3)), [40, 70], atol=0.01)


@pytest.mark.parametrize(("name", "table"), [("v3-images", "file-000"), ("v21-video", "episode_000001")])
def test_numbers_that_the_sets_own_statistics_do_not_have_are_remarked(copied, name, table):
    place = copied(f"lerobot/{name}")
    assert not any("out of date" in one for one in open_dataset(place).remarks)
    file = place / f"data/chunk-000/{table}.parquet"
    change_table(file, observation_state=lambda rows: [*rows[:3], [x + 0.01 for x in rows[3]], *rows[4:]])
    assert any("observation.state has another least" in one for one in open_dataset(place).remarks)


def test_a_damaged_picture_is_refused_by_file_episode_and_row(copied):
    place = copied("lerobot/v3-images")
    file = place / "data/chunk-000/file-000.parquet"

    def damage(pictures):
        broken = bytearray(pictures[8]["bytes"])
        broken[-20] ^= 1
        pictures[8]["bytes"] = bytes(broken)
        return pictures

    change_table(file, observation_image=damage)
    data = open_dataset(place)
    data.recording.read("obs/image", 1, 0, 2)
    with pytest.raises(DatasetError, match=r"file-000\.parquet, episode 1, row 2.*checksum"):
        data.recording.read("obs/image", 1, 0, 3)


CHANGES = {
    "frame_index": (lambda v: [*v[:7], 0, *v[8:]], r"episode 1, row 2: frame_index is 0"),
    "index": (lambda v: [*v[:7], 6, *v[8:]], r"episode 1, row 2: index is 6"),
    "timestamp": (lambda v: [*v[:7], 0.5, *v[8:]], r"episode 1, row 2: timestamp is 0\.5"),
    "episode_index": (lambda v: [*v[:4], 1, *v[5:]], r"episode 0: has 4 rows of this episode.* says 5"),
    "task_index": (lambda v: [*v[:9], 4, *v[10:]], r"episode 2, row 1: task_index is 4"),
    "action": (lambda v: [*v[:9], [1.0], *v[10:]], r"episode 2, row 1: action has 1 entry, 2 elsewhere"),
    "observation_state": (lambda v: [*v[:9], None, *v[10:]], r"episode 2, row 1: observation.state is null"),
    "next_reward": (lambda v: [*v[:9], float("inf"), *v[10:]], r"episode 2, row 2: next.reward is inf"),
}


@pytest.mark.parametrize("column", CHANGES)
def test_a_fault_in_a_table_is_named_by_episode_and_row(tmp_path, column):
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers())
    change, said = CHANGES[column]
    change_table(place / "data/chunk-000/file-000.parquet", **{column: change})
    with pytest.raises(DatasetError, match=r"file-000\.parquet, " + said):
        open_dataset(place)


@pytest.mark.parametrize(
    ("column", "change", "said"),
    [
        ("dataset_to_index", [5, 8, 15], r"episode 2: says it has 8 frames"),
        ("data_file_index", [0, 0, 7], r"file-007\.parquet, episode 2: it is not there"),
        ("videos_observation_images_top_from_timestamp", [0, 0.2, 0.8], r"episode 1: begins in file-000.mp4 at 0.2 s"),
        ("videos_observation_images_top_to_timestamp", [0.5, 0.6, 1.6], r"episode 1: .*top is shown from 0.5 s to 0.6"),
        ("length", [5, 3, 0], r"episode 2: says it has 0 frames"),
    ],
)
def test_a_fault_in_the_table_of_episodes_is_named(tmp_path, column, change, said):
    key = "observation.images.top"
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers(), cameras={key: (32, 48, 3)})
    write_film(place / f"videos/{key}/chunk-000/file-000.mp4", sum(LENGTHS))
    change_table(place / "meta/episodes/chunk-000/file-000.parquet", **{column: change})
    with pytest.raises(DatasetError, match=said):
        open_dataset(place)


@pytest.mark.parametrize(
    ("frames", "size", "said"),
    [
        (15, SHAPE[1:], "2, row 7: has no frame at 1.5 s: it has 15"),
        (16, (32, 64), "0: its frames are 32 x 64.* says 32 x 48"),
    ],
)
def test_a_video_that_does_not_fit_its_table_is_refused_before_it_is_decoded(tmp_path, frames, size, said):
    key = "observation.images.top"
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers(), cameras={key: (32, 48, 3)})
    write_film(place / f"videos/{key}/chunk-000/file-000.mp4", frames, size=size)
    with pytest.raises(DatasetError, match=rf"file-000\.mp4, episode {said}"):
        open_dataset(place)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"codebase_version": {}}, r"codebase_version is {}, known are"),
        ({"codebase_version": "v3.1"}, r"codebase_version is 'v3\.1', known are v2\.0, v2\.1, v3\.0"),
        ({"fps": 5}, r"timestamp is"),
        ({"total_frames": 17}, r"says there are 3 episodes of 17 frames"),
        ({"data_path": "/etc/{file_index}"}, r"names the file '/etc/0', which is not in the dataset's folder"),
        ({"data_path": "data/{file_index.__class__}"}, r"is not one of names and widths"),
        ({"data_path": "data/{secret}"}, r"asks for 'secret'"),
        ({"features": {"action": {"dtype": "float32", "shape": "2"}}}, r"'action' is 'float32' of shape '2'"),
        ({"features": {}}, r"has the column 'timestamp', meta/info.json has no such feature"),
    ],
)
def test_what_meta_info_says_is_held_to_the_files(tmp_path, values, said):
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers())
    change_json(place / "meta/info.json", **values)
    with pytest.raises(DatasetError, match=said):
        open_dataset(place)


def test_a_camera_that_meta_info_has_lost_is_refused(copied):
    place = copied("lerobot/v3-video-h264-2cams")
    features = json.loads((place / "meta/info.json").read_text())["features"]
    del features["observation.images.front"]
    change_json(place / "meta/info.json", features=features)
    with pytest.raises(DatasetError, match=r"videos/observation\.images\.front/.*has no such feature"):
        open_dataset(place)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    place = write_lerobot(tmp_path / "set", LENGTHS, numbers())
    file = place / "data/chunk-000/file-000.parquet"
    file.rename(tmp_path / "elsewhere.parquet")
    file.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(DatasetError, match="out of its folder"):
        open_dataset(place)


@pytest.mark.parametrize("name", ["v21-video", "v3-images"])
def test_a_set_as_the_hubs_client_keeps_it_is_read_through_its_links(sets, tmp_path, check_expected, name):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123abcd"
    blobs.mkdir()
    for number, file in enumerate(one for one in (sets / "lerobot" / name).rglob("*") if one.is_file()):
        link = snapshot / file.relative_to(sets / "lerobot" / name)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    check_expected(open_dataset(snapshot), snapshot)


def test_statistics_in_the_table_of_episodes_and_pictures_are_not_read_on_opening(sets, monkeypatch):
    read = []
    real = episodes.read_columns
    for module in (episodes, rows):
        monkeypatch.setattr(
            module, "read_columns", lambda o, f, n, **k: read.extend(n := list(n)) or real(o, f, n, **k)
        )
    open_dataset(sets / "lerobot/v3-images")
    assert {"length", "action"} <= set(read) and "observation.image" not in read
    assert not any(name.startswith("stats/") for name in read)


def test_an_unknown_option_is_answered_with_the_known(sets):
    with pytest.raises(ConfigurationError, match="Did you mean 'cameras'"):
        open_dataset(sets / "lerobot/v3-images", camera=["image"])


def test_a_video_with_few_keyframes_is_said_to_be_slow(tmp_path):
    index = SimpleNamespace(height=4, width=4, times=np.arange(90) / 10, keys=[0])
    videos = SimpleNamespace(index=lambda file, episode: index)
    feature = SimpleNamespace(key="eye", name="eye", frame=(3, 4, 4))
    episode = SimpleNamespace(index=0, length=90, videos={"eye": (tmp_path / "eye.mp4", 0.0)})
    (said,) = VideoFrames(feature, [episode], 10, videos).check()
    assert said.startswith("eye: a keyframe in 90 frames, so that a window decodes up to as many before its first")
