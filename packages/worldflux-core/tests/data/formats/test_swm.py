"""stable-worldmodel's sets: two versions told apart by the steps they count, three containers."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset

h5py = pytest.importorskip("h5py")
pytest.importorskip("av")


def changed(place, change):
    with h5py.File(place / "data.h5", "a") as file:
        change(file)
    return place


def set_row(name, row, value):
    return lambda file: file[name].__setitem__(row, value)


def test_a_set_that_omits_the_reset_loses_its_turned_action_and_says_so(sets):
    dataset = open_dataset(sets / "swm/hdf5-0.1.1")
    for i in range(3):
        rows = dataset.episode(i)
        assert rows["reward"][0] == 0 and rows["reward"][1] == 2 and not rows["action"][-1].any()
    assert any("0.1.1 does not record the reset" in remark for remark in dataset.remarks)
    assert not any("0.1.1" in remark for remark in open_dataset(sets / "swm/hdf5-main").remarks)


@pytest.mark.parametrize(
    ("name", "row", "place"), [("reward", 9, "episode 1, row 2"), ("action", 8, "episode 1, row 1")]
)
def test_only_the_fillers_may_be_no_numbers(copied, name, row, place):
    with pytest.raises(DatasetError, match=rf"data.h5, {place}: {name} is nan"):
        open_dataset(changed(copied("swm/hdf5-main"), set_row(name, row, np.nan)))


def test_what_a_model_sees_can_be_named(sets):
    place = sets / "swm/hdf5-main"
    dataset = open_dataset(place, obs=["observation"])
    assert list(dataset.obs_spec) == ["observation"]
    assert list(open_dataset(place).obs_spec) == ["observation", "pixels"]
    with pytest.raises(ConfigurationError, match="Did you mean 'pixels'"):
        open_dataset(place, obs=["pixel"])


def test_columns_of_other_names_are_infos(copied):
    def change(file):
        file["state"], file["goal"] = np.arange(38.0), np.full((38, 2), np.nan)

    dataset = open_dataset(changed(copied("swm/hdf5-main"), change))
    assert list(dataset.info_spec) == ["state"] and dataset.episode(1)["info/state"][0] == 7
    assert any("'goal' is left out" in remark for remark in dataset.remarks)


def test_episodes_may_lie_in_any_order_with_rows_between(copied):
    def change(file):
        for name, values in (("ep_len", [21, 7]), ("ep_offset", [17, 0])):
            del file[name]
            file[name] = np.array(values)

    dataset = open_dataset(changed(copied("swm/hdf5-main"), change))
    rows = dataset.episode(1)
    assert rows["obs/observation"][:, 0].tolist() == list(range(7))
    np.testing.assert_allclose(rows["obs/pixels"].mean((1, 2, 3)), 20 + 10 * np.arange(7))
    assert any("10 rows belong to no episode" in remark for remark in dataset.remarks)


FAULTS = {
    "too-long": (set_row("ep_len", 2, 30), "episode 2: ep_len says 30 rows"),
    "no-rows": (set_row("ep_len", 1, 0), "episode 1: ep_len says 0 rows"),
    "overlap": (set_row("ep_offset", 1, 3), "episode 1: rows belong to two episodes"),
    "step-missing": (set_row("step_idx", 20, 9), "episode 2, row 3: step_idx is 9 after 2"),
    "start-missing": (lambda f: f["step_idx"].__setitem__(slice(7, 17), np.arange(10) + 4), "episode 1: its first row"),
    "another-id": (set_row("id", 10, 1), "episode 1, row 3: id changes"),
    "flag": (lambda f: [f.__delitem__("terminated"), f.__setitem__("terminated", np.full(38, 2))], "0 and 1"),
    "short": (lambda f: f["reward"].resize(30, axis=0), "reward has 30 rows, the others 38"),
    "text": (
        lambda f: [f.__delitem__("reward"), f.__setitem__("reward", [b"x"] * 38)],
        "reward holds object, expected numbers",
    ),
    "no-action": (lambda f: f.__delitem__("action"), "no column action"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_file_episode_and_row(copied, fault):
    change, words = FAULTS[fault]
    with pytest.raises(DatasetError) as error:
        open_dataset(changed(copied("swm/hdf5-main"), change))
    assert "data.h5" in str(error.value) and words in str(error.value), error.value


def test_pictures_in_an_npz_are_pictures(copied):
    place = copied("swm/folder-main")
    frames = np.arange(17, dtype=np.uint8)[:, None, None, None] * np.ones((17, 6, 8, 3), np.uint8)
    np.savez(place / "data/pixels_wrist.npz", frames)
    dataset = open_dataset(place)
    assert dataset.obs_spec["pixels_wrist"].shape == (3, 6, 8)
    assert dataset.episode(1)["obs/pixels_wrist"][:, 0, 0, 0].tolist() == list(range(7, 17))


def test_a_missing_picture_is_named_before_it_is_needed(copied):
    place = copied("swm/folder-main")
    (place / "data/pixels/ep_1_step_4.jpeg").unlink()
    with pytest.raises(DatasetError, match=r"ep_1_step_4.jpeg, episode 1, row 4: it is not there"):
        open_dataset(place)


def test_a_damaged_picture_is_named_when_it_is_read(copied):
    place = copied("swm/folder-main")
    (place / "data/pixels/ep_1_step_4.jpeg").write_bytes(b"\xff\xd8 no picture")
    recording = open_dataset(place).recording
    assert len(recording.read("obs/pixels", 1, 0, 4)) == 4
    with pytest.raises(DatasetError, match=r"ep_1_step_4.jpeg, episode 1, row 4"):
        recording.read("obs/pixels", 1, 2, 6)


def test_a_picture_out_of_the_folder_is_not_followed(copied, tmp_path):
    place = copied("swm/folder-main")
    picture = place / "data/pixels/ep_0_step_2.jpeg"
    picture.rename(tmp_path / "elsewhere.jpeg")
    picture.symlink_to(tmp_path / "elsewhere.jpeg")
    with pytest.raises(DatasetError, match="out of its folder"):
        open_dataset(place).episode(0)


def test_a_video_shorter_than_its_rows_is_named(copied):
    place = copied("swm/video-main")
    (place / "data/pixels/ep_2.mp4").write_bytes((place / "data/pixels/ep_1.mp4").read_bytes())
    with pytest.raises(DatasetError, match=r"ep_2.mp4, episode 2, row 10: has 10 frames, its episode has 21 rows"):
        open_dataset(place)


@pytest.mark.parametrize("name", ["folder-main", "video-main"])
def test_some_rows_are_those_of_all_rows(sets, name):
    recording = open_dataset(sets / "swm" / name).recording
    whole = recording.read("obs/pixels", 1, 0, 10)
    assert (recording.read("obs/pixels", 1, 3, 9, 2) == whole[3:9:2]).all()
    assert (recording.read("obs/pixels", 1, 9, 12) == whole[9:]).all()


def test_a_column_of_objects_is_refused(copied):
    place = copied("swm/folder-main")
    np.savez(place / "data/reward.npz", np.array([{}] * 17, object))
    with pytest.raises(DatasetError, match=r"reward.npz: .*never loaded"):
        open_dataset(place)
