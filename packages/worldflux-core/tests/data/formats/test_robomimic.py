"""RoboMimic's files: demonstrations by number, their ends, and what the file does not show."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset

h5py = pytest.importorskip("h5py")


def changed(place, change):
    with h5py.File(place / "data.hdf5", "a") as file:
        change(file)
    return place


def drop(*names):
    def change(file):
        for demo in file["data"].values():
            for name in names:
                del demo[name]

    return change


def test_demonstrations_are_in_the_order_of_their_numbers(sets):
    dataset = open_dataset(sets / "robomimic/gaps-in-numbers")
    assert dataset.episodes.ids == ("demo_2", "demo_7", "demo_10")
    assert dataset.recording.provenance["splits"] == {"train": ["demo_2", "demo_10"], "valid": ["demo_7"]}


def test_dones_may_be_taken_for_time(sets):
    ends = [
        open_dataset(sets / "robomimic/gaps-in-numbers", **how).episodes.terminal for how in ({}, {"dones": "time"})
    ]
    assert ends[0].tolist() == [True, True, False] and not ends[1].any()
    with pytest.raises(ConfigurationError, match="expected 'terminal' or 'time'"):
        open_dataset(sets / "robomimic/gaps-in-numbers", dones="success")


def test_without_next_obs_a_marked_row_keeps_the_end(sets):
    dataset = open_dataset(sets / "robomimic/no-next-obs")
    rows = dataset.episode(0)
    assert dataset.episodes.stand_in.all() and rows["reward"][-1] == 6 and rows["is_terminal"][-1]
    for name in ("obs/state", "obs/agentview_image"):
        assert (rows[name][-1] == rows[name][-2]).all()


def test_without_rewards_and_dones_nothing_is_made_up(copied):
    dataset = open_dataset(changed(copied("robomimic/no-next-obs"), drop("rewards", "dones")))
    assert not dataset.has_rewards and not dataset.episodes.stand_in.any()
    assert dataset.episodes.lengths.tolist() == [6, 9, 20]


def test_an_observation_that_is_not_the_next_of_the_row_before_is_said(copied):
    def change(file):
        file["data/demo_7/next_obs/state"][1] = 5

    place = changed(copied("robomimic/gaps-in-numbers"), change)
    assert any("episode 1 (demo_7), row 2" in remark for remark in open_dataset(place).remarks)


def test_states_are_kept_as_an_info(copied):
    def change(file):
        for demo in file["data"].values():
            del demo["states"]
            demo["states"] = np.arange(len(demo["actions"]), dtype=float)[:, None]

    dataset = open_dataset(changed(copied("robomimic/gaps-in-numbers"), change))
    assert dataset.episode(0)["info/states"][:, 0].tolist() == [0, 1, 2, 2]


def put(where, values):
    def change(file):
        del file[where]
        file[where] = values

    return change


FAULTS = {
    "count": (lambda f: f["data/demo_7"].attrs.__setitem__("num_samples", 9), "num_samples is 9, it holds 5"),
    "ragged": (put("data/demo_7/obs/state", np.zeros((4, 4), np.float32)), "obs/state has 4 rows, expected 5"),
    "ragged-frames": (put("data/demo_7/obs/agentview_image", np.zeros((4, 16, 16, 3), np.uint8)), "has 4 rows"),
    "frames-change": (put("data/demo_7/obs/agentview_image", np.zeros((5, 8, 16, 3), np.uint8)), "[5, 8, 16, 3]"),
    "action-size": (put("data/demo_7/actions", np.zeros((5, 3), np.float32)), "actions is float32[5, 3]"),
    "nan": (put("data/demo_7/rewards", [0, 0, np.nan, 0, 0]), "row 3: reward is nan"),
    "no-obs": (lambda f: f.__delitem__("data/demo_7/obs/state"), "other names"),
    "rewards-missing": (lambda f: f.__delitem__("data/demo_7/rewards"), "has no rewards, unlike demo_2"),
    "dones": (put("data/demo_7/dones", [0, 0, 0, 0, 2]), "other numbers than 0 and 1"),
    "no-step": (put("data/demo_7/actions", np.zeros((0, 2), np.float32)), "no step"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_file_and_episode(copied, fault):
    change, words = FAULTS[fault]
    with pytest.raises(DatasetError) as error:
        open_dataset(changed(copied("robomimic/gaps-in-numbers"), change))
    assert all(word in str(error.value) for word in ("data.hdf5", words))
    assert "episode 1" in str(error.value) or fault == "dones", error.value
