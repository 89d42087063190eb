"""D4RL's flat files: where episodes end, and what the file does not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset

h5py = pytest.importorskip("h5py")


def columns(steps=(3, 2), *, terminal=(True, False), **more) -> dict:
    rows = sum(steps)
    ends = np.cumsum(steps) - 1
    counted = np.concatenate([np.arange(n) for n in steps])
    flags = np.zeros((2, rows), bool)
    flags[0, ends] = terminal
    flags[1, ends] = ~np.array(terminal)
    return {
        "observations": np.stack([counted, np.ones(rows)], 1).astype(np.float32),
        "actions": np.linspace(-1, 1, 2 * rows, dtype=np.float32).reshape(rows, 2),
        "rewards": counted.astype(np.float32) + 1,
        "terminals": flags[0],
        "timeouts": flags[1],
    } | more


def saved(path: Path, given: dict) -> Path:
    given = {name: values for name, values in given.items() if values is not None}
    if path.suffix == ".npz":
        np.savez(path, **given)
    else:
        with h5py.File(path, "w") as file:
            for name, values in given.items():
                file[name] = values
    return path


@pytest.mark.parametrize("ending", [".hdf5", ".npz"])
def test_the_last_reward_and_end_are_kept_in_a_marked_row(tmp_path, ending):
    dataset = open_dataset(saved(tmp_path / f"data{ending}", columns()))
    assert dataset.episodes.lengths.tolist() == [4, 3] and dataset.episodes.stand_in.all()
    assert dataset.episodes.terminal.tolist() == [True, False]
    rows = dataset.episode(0)
    assert rows["reward"].tolist() == [0, 1, 2, 3]
    assert rows["obs/obs"][:, 0].tolist() == [0, 1, 2, 2]
    assert rows["action"][2].any() and not rows["action"][3].any()


def test_the_strict_reading_leaves_the_last_arrival_out(tmp_path):
    dataset = open_dataset(saved(tmp_path / "data.hdf5", columns()), tail="drop")
    assert dataset.episodes.lengths.tolist() == [3, 2]
    assert not dataset.episodes.stand_in.any() and not dataset.episodes.terminal.any()
    assert dataset.episode(0)["reward"].tolist() == [0, 1, 2]
    assert any("left out" in remark for remark in dataset.remarks)


def test_without_rewards_and_ends_nothing_is_made_up(tmp_path):
    given = columns(rewards=None, terminals=None)
    dataset = open_dataset(saved(tmp_path / "data.hdf5", given))
    assert not dataset.episodes.stand_in.any() and not dataset.has_rewards
    assert open_dataset(tmp_path / "data.hdf5", tail="stand_in").episodes.stand_in.all()


def test_the_last_observation_is_the_files_own_where_it_has_one(tmp_path):
    given = columns()
    given["next_observations"] = given["observations"] + np.float32([1, 0])
    dataset = open_dataset(saved(tmp_path / "data.hdf5", given))
    assert not dataset.episodes.stand_in.any() and dataset.episodes.terminal.tolist() == [True, False]
    assert dataset.episode(1)["obs/obs"][:, 0].tolist() == [0, 1, 2]
    assert not dataset.remarks
    given["next_observations"][0, 1] = 7
    assert any("episode 0, row 1" in one for one in open_dataset(saved(tmp_path / "odd.hdf5", given)).remarks)


def test_a_limit_of_steps_stands_in_for_timeouts(tmp_path):
    path = saved(tmp_path / "data.hdf5", columns((4, 7), timeouts=None))
    assert open_dataset(path, tail="drop").episodes.lengths.tolist() == [4, 7]
    dataset = open_dataset(path, tail="drop", step_limit=5)
    assert dataset.episodes.lengths.tolist() == [4, 5, 2]
    assert any("timeouts" in remark for remark in dataset.remarks)
    with pytest.raises(ConfigurationError, match="step_limit is 0"):
        open_dataset(path, step_limit=0)


def test_pictures_stay_in_the_file_and_repeat_where_they_are_not_shown(tmp_path):
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 6, 8, 3), np.uint8)
    given = columns(observations=frames)
    for name in ("data.hdf5", "data.npz"):
        dataset = open_dataset(saved(tmp_path / name, given), format="d4rl")
        assert dataset.obs_spec["obs"].shape == (3, 6, 8)
        assert dataset.episode(1)["obs/obs"][:, 0, 0, 0].tolist() == [3, 4, 4]
    given["next_observations"] = frames + 1
    dataset = open_dataset(saved(tmp_path / "next.hdf5", given))
    assert dataset.episode(0)["obs/obs"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_infos_of_numbers_become_columns(tmp_path):
    path = saved(
        tmp_path / "data.hdf5", columns(**{"infos/qpos": np.arange(10.0).reshape(5, 2), "infos/odd": [b"x"] * 5})
    )
    dataset = open_dataset(path)
    assert list(dataset.info_spec) == ["qpos"]
    assert dataset.episode(0)["info/qpos"].tolist() == [[0, 1], [2, 3], [4, 5], [4, 5]]
    assert any("infos/odd is left out" in remark for remark in dataset.remarks)
    assert not open_dataset(path, info=[]).info_spec


def test_whole_numbers_in_one_column_are_classes(tmp_path):
    dataset = open_dataset(saved(tmp_path / "data.hdf5", columns(actions=np.array([0, 2, 1, 0, 2]))))
    assert dataset.action_spec.discrete and dataset.action_spec.num_actions == 3
    assert any("3 classes" in remark for remark in dataset.remarks)
    assert open_dataset(tmp_path / "data.hdf5", num_actions=5).action_spec.num_actions == 5
    for wrong in (2, 0, "5"):
        with pytest.raises(ConfigurationError, match="num_actions"):
            open_dataset(tmp_path / "data.hdf5", num_actions=wrong)
    assert dataset.episode(0)["action"].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_whole_numbers_that_are_no_classes_stay_numbers(tmp_path):
    dataset = open_dataset(saved(tmp_path / "data.hdf5", columns(actions=np.array([0, -1, 1, 0, 1]))))
    assert not dataset.action_spec.discrete and dataset.episode(0)["action"][:, 0].tolist() == [0, -1, 1, 0]
    with pytest.raises(ConfigurationError, match="num_actions is 3, but the actions are int64"):
        open_dataset(tmp_path / "data.hdf5", num_actions=3)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"rewards": np.float32([1, 2, 3, np.nan, 2])}, "episode 1, row 1: reward is nan"),
        ({"observations": np.float32([[0, 0]] * 4 + [[0, np.inf]])}, "episode 1, row 1: observations is inf"),
        ({"actions": np.float32([[0, 0]] * 2 + [[np.nan, 0]] * 3)}, "episode 0, row 2: action is nan"),
        ({"terminals": np.zeros(4, bool)}, "terminals has 4 rows, expected 5"),
        ({"timeouts": np.full(5, 3)}, "other numbers than 0 and 1"),
        ({"observations": np.zeros((4, 2), np.float32)}, "observations has 4 rows"),
        ({"observations": None}, "observations"),
        ({"next_observations": np.zeros((5, 3), np.float32)}, "next_observations has shape"),
    ],
)
@pytest.mark.parametrize("ending", [".hdf5", ".npz"])
def test_a_fault_is_named_by_file_episode_and_row(tmp_path, ending, fault, words):
    path = saved(tmp_path / f"data{ending}", columns(**fault))
    with pytest.raises(DatasetError) as error:
        open_dataset(path, format="d4rl")
    assert path.name in str(error.value) and words in str(error.value), error.value


def test_an_object_array_is_refused_and_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('it was loaded')",))

    path = tmp_path / "data.npz"
    np.savez(path, **columns(rewards=np.array([Bomb()] * 5, object)))
    with pytest.raises(DatasetError, match=r"data.npz: .*objects.* it is never loaded"):
        open_dataset(path)


def test_an_array_that_is_called_otherwise_in_the_list_is_noticed(tmp_path):
    path = saved(tmp_path / "data.npz", columns())
    data = path.read_bytes()
    at = data.rindex(b"timeouts.npy")
    path.write_bytes(data[:at] + b"timeoutz" + data[at + 8 :])
    with pytest.raises(DatasetError, match=r"data.npz: not a readable .npz"):
        open_dataset(path, format="d4rl")


def test_hdf5_that_nothing_can_open_names_its_file(copied):
    place = copied("d4rl/flat")
    file = place / "data.hdf5"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"data.hdf5: the HDF5 file cannot be read"):
        open_dataset(place)
