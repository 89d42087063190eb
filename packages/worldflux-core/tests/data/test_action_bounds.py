"""What -1 and 1 of recorded actions stand for: kept with the data, compared with whatever it meets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError, PluginError
from worldflux.core.spec import ActionSpec, vector
from worldflux.data import (
    ActionBounds,
    Dataset,
    DatasetError,
    DatasetWriter,
    EpisodeTable,
    Recording,
    convert,
    describe,
    mix,
    open_dataset,
)
from worldflux.data.bounds import env_bounds, space_bounds
from worldflux.data.brought import check_brought

spaces = pytest.importorskip("gymnasium.spaces")
TWO, THREE = ActionBounds((-2.0, -2.0), (2.0, 2.0)), ActionBounds((-2.0, -3.0), (2.0, 3.0))


def write(path, bounds, *, seed=0, mode="new"):
    rng = np.random.default_rng(seed)
    with DatasetWriter(
        path, {"obs": vector(1)}, ActionSpec("continuous", 2), action_bounds=bounds, mode=mode
    ) as writer:
        for _ in range(2):
            action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
            writer.append({"obs/obs": rng.normal(size=(3, 1)), "action": action, "reward": np.zeros(3)})
    return open_dataset(path)


def test_a_dataset_keeps_the_bounds_of_its_actions_and_shows_them(tmp_path):
    dataset = write(tmp_path / "set", THREE)
    assert dataset.action_bounds == THREE
    assert describe(dataset)["actions"]["bounds"] == {"low": [-2, -3], "high": [2, 3]}
    assert json.loads((tmp_path / "set/dataset.json").read_text())["action_bounds"] == THREE.to_dict()


def test_a_dataset_that_says_no_bounds_is_read_mixed_and_merged_as_before(tmp_path):
    unknown, known = write(tmp_path / "unknown", None), write(tmp_path / "known", TWO, seed=1)
    assert unknown.action_bounds is None and "bounds" not in describe(unknown)["actions"]
    assert "action_bounds" not in json.loads((tmp_path / "unknown/dataset.json").read_text())
    mix([(unknown, 1), (known, 1)])
    convert([unknown, known], tmp_path / "both")
    assert open_dataset(tmp_path / "both").action_bounds == TWO


@pytest.mark.parametrize("meet", ["mixed", "merged"])
def test_datasets_of_other_bounds_do_not_become_one_and_both_are_named(tmp_path, meet):
    sets = [write(tmp_path / "two", TWO), write(tmp_path / "three", THREE, seed=1)]
    with pytest.raises(ConfigurationError, match=r"two go from -2 to 2, .*three from \[-2, -3\] to \[2, 3\]"):
        mix((one, 1) for one in sets) if meet == "mixed" else convert(sets, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_no_episodes_of_other_bounds_are_appended(tmp_path):
    write(tmp_path / "set", TWO)
    with pytest.raises(ConfigurationError, match="these from"):
        write(tmp_path / "set", THREE, mode="append")
    assert len(write(tmp_path / "set", TWO, mode="append").episodes) == 4


def test_bounds_are_of_the_actions_size_and_in_order(tmp_path):
    with pytest.raises(ConfigurationError, match="action_bounds has 1 component, the action 2"):
        write(tmp_path / "set", ActionBounds((-1,), (1,)))
    for low, high in (((1,), (-1,)), ((None,), (1,)), ((float("nan"),), (1,)), ((-1, 1), (1,)), (("a",), (1,))):
        with pytest.raises(ValueError):
            ActionBounds(low, high)


@pytest.mark.parametrize("told", [[], {"low": [-1, -1]}, {"low": [1, 1], "high": [0, 2]}, {"low": [0], "high": [1]}])
def test_a_page_with_bounds_that_are_none_is_damaged(tmp_path, told):
    write(tmp_path / "set", TWO)
    page = json.loads((tmp_path / "set/dataset.json").read_text()) | {"action_bounds": told}
    (tmp_path / "set/dataset.json").write_text(json.dumps(page))
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        open_dataset(tmp_path / "set")


def test_bounds_that_rounding_makes_differ_are_the_same():
    narrow = np.float32(0.4)
    assert not ActionBounds.of([-narrow], [narrow]).differ(ActionBounds((-0.4,), (0.4,)))
    assert ActionBounds((-0.4,), (0.4,)).differ(ActionBounds((-0.4,), (0.5,)))


def test_what_one_side_does_not_know_differs_from_nothing():
    half = ActionBounds((None, -2.0), (None, 2.0))
    assert not half.differ(ActionBounds((-9.0, -2.0), (9.0, 2.0)))
    assert half.differ(THREE)
    assert half.filled(THREE) == ActionBounds((-2.0, -2.0), (2.0, 2.0))


def test_the_bounds_of_a_space_are_in_the_order_of_its_flat_actions():
    space = spaces.Dict(
        {
            "turn": spaces.Box(np.float32([-3, 0]), np.float32([3, 5])),
            "gear": spaces.Discrete(2),
            "brake": spaces.Box(0, 4, (1,), np.int64),
        }
    )
    assert space_bounds(space) == ActionBounds((0, None, None, -3, 0), (4, None, None, 3, 5))
    assert space_bounds(spaces.Discrete(3)) is None
    assert env_bounds(object()) is None


def test_the_bounds_that_a_plugins_format_gives_are_its_actions():
    rows = {"obs/x": np.zeros((2, 1), np.float32), "action": np.zeros((2, 2), np.float32)}
    about = "acme", None, {"x": vector(1)}, ActionSpec("continuous", 2), EpisodeTable.of(["a"], [2]), rows
    assert Dataset(check_brought(Recording(*about, action_bounds=TWO), "acme")).action_bounds == TWO
    for wrong in (ActionBounds((-1,), (1,)), [-1, 1]):
        with pytest.raises(PluginError, match="action_bounds is .*expected ActionBounds of 2"):
            check_brought(Recording(*about, action_bounds=wrong), "acme")
