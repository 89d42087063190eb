"""OGBench's files: trajectories that end by time, in the three layouts that there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldflux.data import ActionBounds, DatasetError, open_dataset


def columns(states=(5, 4), **more) -> dict:
    """As downloaded: all states of a trajectory, the last one with an action that led nowhere."""
    rows = sum(states)
    counted = np.concatenate([np.arange(n) for n in states])
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(states) - 1] = True
    return {
        "observations": np.stack([counted, np.repeat(np.arange(len(states)), states)], 1).astype(np.float32),
        "actions": np.linspace(-1, 1, 2 * rows, dtype=np.float32).reshape(rows, 2),
        "terminals": terminals,
        "qpos": counted[:, None].astype(np.float64),
    } | more


def compact(given: dict) -> dict:
    """As its loader returns it with ``compact_dataset=True``."""
    ends = given["terminals"].astype(np.float32)
    return given | {"valids": 1 - ends, "terminals": np.minimum(ends + np.append(ends[1:], 1), 1)}


def regular(given: dict) -> dict:
    """As its loader returns it by default."""
    ends = given["terminals"].astype(np.float32)
    states, after = ends == 0, np.append(False, ends[:-1] == 0)
    kept = {name: values[states] for name, values in given.items()}
    following = {"next_observations": given["observations"][after], "terminals": np.append(ends[1:], 1)[states]}
    return kept | following


def saved(path: Path, given: dict) -> Path:
    np.savez(path, **given)
    return path


@pytest.mark.parametrize("layout", [dict, compact, regular])
def test_every_layout_gives_all_states_and_no_true_end(tmp_path, layout):
    given = columns()
    dataset = open_dataset(saved(tmp_path / "data.npz", layout(given)))
    assert dataset.recording.format == "ogbench" and not dataset.has_rewards
    assert dataset.episodes.lengths.tolist() == [5, 4]
    assert not dataset.episodes.terminal.any() and not dataset.episodes.stand_in.any()
    for index, first in enumerate((0, 5)):
        rows = dataset.episode(index)
        stop = first + dataset.episodes.lengths[index]
        assert np.array_equal(rows["obs/obs"], given["observations"][first:stop])
        assert np.array_equal(rows["action"][:-1], given["actions"][first : stop - 1]) and not rows["action"][-1].any()
        assert rows["info/qpos"][:-1, 0].tolist() == list(range(stop - first - 1))
    assert any("ended by time" in remark for remark in dataset.remarks)


def test_rewards_of_a_task_are_paid_on_arriving_and_its_masks_end_nothing(tmp_path):
    given = columns(rewards=np.arange(9, dtype=np.float32), masks=np.zeros(9, np.float32))
    dataset = open_dataset(saved(tmp_path / "data.npz", compact(given)))
    assert dataset.episode(1)["reward"].tolist() == [0, 5, 6, 7] and not dataset.episodes.terminal.any()
    assert any("masks are left out" in remark for remark in dataset.remarks)


def test_pictures_are_pictures(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
    dataset = open_dataset(saved(tmp_path / "data.npz", columns(observations=pictures)))
    assert np.array_equal(dataset.episode(1)["obs/obs"], pictures[5:].transpose(0, 3, 1, 2))


def test_whole_numbers_are_classes_and_infos_are_picked(tmp_path):
    place = saved(tmp_path / "data.npz", columns(actions=np.arange(9) % 3))
    assert open_dataset(place, info=[]).info_spec == {} and open_dataset(place).action_spec.dim == 3


def test_what_says_its_timeouts_or_pays_is_d4rl(tmp_path):
    for more in ({"timeouts": np.zeros(9, bool)}, {"rewards": np.zeros(9, np.float32)}):
        assert open_dataset(saved(tmp_path / "data.npz", columns(**more))).recording.format == "d4rl"


def test_read_as_d4rl_equal_ends_without_a_reward_are_remarked_on(tmp_path):
    place = saved(tmp_path / "data.npz", columns((5, 5)))
    assert any("ogbench:data.npz" in remark for remark in open_dataset(place, format="d4rl").remarks)
    other = saved(tmp_path / "other.npz", columns((5, 4)))
    assert not any("ogbench" in remark for remark in open_dataset(other, format="d4rl").remarks)


def test_hdf5_of_the_same_columns_is_read_by_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for name, values in columns().items():
            file[name] = values
    dataset = open_dataset(f"ogbench:{tmp_path}/data.hdf5")
    assert dataset.episodes.lengths.tolist() == [5, 4] and not dataset.episodes.terminal.any()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"terminals": compact(columns())["terminals"]}, "episode 1: the trajectory has one row; .*save its valids"),
        ({"terminals": np.arange(9)}, "terminals hold other numbers than 0 and 1"),
        ({"observations": np.zeros((8, 2), np.float32)}, "observations"),
        ({"observations": np.full((9, 2), np.nan, np.float32)}, "episode 0, row 0: observations is nan"),
        ({"actions": np.zeros((0, 2), np.float32)}, "it has no row"),
    ],
)
def test_what_is_broken_is_named(tmp_path, broken, said):
    with pytest.raises(DatasetError, match=said):
        open_dataset(saved(tmp_path / "data.npz", columns(**broken)))


def test_the_bounds_that_are_named_are_kept(tmp_path):
    place = saved(tmp_path / "data.npz", columns())
    assert open_dataset(place, action_low=-2.0, action_high=2.0).action_bounds == ActionBounds((-2.0,) * 2, (2.0,) * 2)
