"""Minari's sets: the names an environment would give, every kind of space, and faults by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import ActionBounds, DatasetError, open_dataset
from worldflux.envs.spaces import ActionAdapter, ObservationAdapter

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
pytest.importorskip("PIL")
spaces = pytest.importorskip("gymnasium").spaces

OBSERVATIONS = {
    "box": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
    "number": spaces.Box(-1, 1, (), np.float32),
    "discrete": spaces.Discrete(4, start=-2),
    "multi-discrete": spaces.MultiDiscrete([3, 5], start=[1, 0]),
    "multi-binary": spaces.MultiBinary(3),
    "picture": spaces.Box(0, 255, (8, 6, 3), np.uint8),
    "grey": spaces.Box(0, 255, (8, 6), np.uint8),
    "sixteen-bits": spaces.Box(0, 1000, (8, 6, 1), np.uint16),
    "nested": spaces.Dict(
        {"b": spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))]), "a": spaces.Box(0, 255, (6, 8, 8), np.uint8)}
    ),
}
ACTIONS = {
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "scaled": spaces.Box(np.array([-2, 0], np.float32), np.array([4, 10], np.float32)),
    "whole": spaces.Box(0, 20, (2,), np.int64),
    "discrete": spaces.Discrete(3, start=5),
    "multi-discrete": spaces.MultiDiscrete([3, 5]),
    "multi-binary": spaces.MultiBinary([2, 2]),
    "dict": spaces.Dict({"z": spaces.Discrete(2), "a": spaces.Box(0, 1, (3,)), "m": spaces.MultiDiscrete([2] * 11)}),
    "tuple": spaces.Tuple([spaces.Box(-3, 3, (1,)), spaces.Discrete(4)]),
}


@pytest.fixture(scope="module")
def write():
    import importlib.util

    spec = importlib.util.spec_from_file_location("minari_writer", Path(__file__).with_name("minari_writer.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write


def sampled(space, count: int) -> list:
    space.seed(count)
    return [space.sample() for _ in range(count)]


def a_set(write, root, *, observation=OBSERVATIONS["box"], action=ACTIONS["box"], steps=(3, 5), **said):
    episodes = [(sampled(observation, count + 1), sampled(action, count)) for count in steps]
    return write(root / "set", observation, action, episodes, **said), episodes


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_are_what_the_environment_shows(write, tmp_path, name):
    space = OBSERVATIONS[name]
    place, episodes = a_set(write, tmp_path, observation=space)
    dataset, adapter = open_dataset(place), ObservationAdapter(space)
    assert dataset.obs_spec == adapter.spec
    for i, (observations, _) in enumerate(episodes):
        rows = dataset.episode(i)
        for key, values in adapter(observations).items():
            np.testing.assert_array_equal(rows[f"obs/{key}"], values)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_those_that_an_environment_would_have_taken(write, tmp_path, name):
    space = ACTIONS[name]
    place, episodes = a_set(write, tmp_path, action=space)
    dataset, adapter = open_dataset(place), ActionAdapter(space)
    assert dataset.action_spec == adapter.spec
    for i, (_, actions) in enumerate(episodes):
        flat = dataset.episode(i)["action"]
        assert not flat[-1].any() and np.abs(flat).max() <= 1 + 1e-6
        for row, action in zip(flat, actions):
            same(adapter(row), action)


def same(one, other) -> None:
    if isinstance(other, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(other, (list, tuple)):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_scaled_actions_are_said_and_their_bounds_kept(write, tmp_path):
    dataset = open_dataset(a_set(write, tmp_path, action=ACTIONS["scaled"])[0])
    assert any("scaled to [-1, 1]" in remark for remark in dataset.remarks)
    assert dataset.action_bounds == ActionBounds((-2, 0), (4, 10))


def test_actions_without_bounds_stay_raw_until_bounds_are_given(write, tmp_path):
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    episodes = [([np.zeros((2, 3))] * 3, [np.float32([4, -4]), np.float32([0, 2])])]
    place = write(tmp_path / "set", OBSERVATIONS["box"], space, episodes)
    raw = open_dataset(place)
    assert raw.episode(0)["action"].tolist() == [[4, -4], [0, 2], [0, 0]]
    assert any("outside [-1, 1]" in remark and "action_low=" in remark for remark in raw.remarks)
    scaled = open_dataset(place, action_low=-4, action_high=[4, 4])
    assert scaled.episode(0)["action"].tolist() == [[1, -1], [0, 0.5], [0, 0]]
    for wrong in ({"action_low": 1, "action_high": 1}, {"action_low": -1}, {"action_low": [0] * 3, "action_high": 1}):
        with pytest.raises(ConfigurationError, match="action_low"):
            open_dataset(place, **wrong)


def test_text_is_left_out_and_said(write, tmp_path):
    space = spaces.Dict({"mission": spaces.Text(5), "state": OBSERVATIONS["box"]})
    dataset = open_dataset(a_set(write, tmp_path, observation=space)[0])
    assert list(dataset.obs_spec) == ["state"] and "mission (Text)" in dataset.remarks[0]


def test_infos_of_numbers_are_kept_by_name(write, tmp_path):
    infos = [{"pose/x": np.arange(n + 1.0), "note": np.array([b"a"] * (n + 1)), "short": np.zeros(n)} for n in (3, 5)]
    place, _ = a_set(write, tmp_path, infos=infos)
    dataset = open_dataset(place)
    assert list(dataset.info_spec) == ["pose/x"]
    assert dataset.episode(1)["info/pose/x"].tolist() == [0, 1, 2, 3, 4, 5]
    assert sum("left out" in remark for remark in dataset.remarks) == 2
    assert not open_dataset(place, info=[]).info_spec


def test_a_window_is_a_batch_with_its_pictures(sets):
    batch = open_dataset(sets / "minari/dict-jpeg-samelength-hdf5").windows(4).sample(3)
    assert batch.obs["image"].shape == (3, 4, 3, 32, 40) and batch.obs["state"].shape == (3, 4, 4)
    counted = batch.obs["state"][..., 0].numpy()
    shown = batch.obs["image"].float().mean((2, 3, 4)).numpy()
    np.testing.assert_allclose(shown, 18 + 24 * counted, atol=3)


# -- faults ------------------------------------------------------------------------------------------------------------


def damaged_by(place, change) -> Path:
    with h5py.File(place / "data" / "main_data.hdf5", "a") as file:
        change(file)
    return place


def put(where, values):
    def change(file):
        del file[where]
        file[where] = values

    return change


def delete(where):
    return lambda file: file.__delitem__(where)


FAULTS = {
    "nan": (put("episode_1/rewards", [1.0] * 3 + [np.nan] + [1.0] * 5), "episode 1, row 4", "reward is nan"),
    "infinite": (put("episode_0/observations", np.full((7, 4), np.float32(np.inf))), "episode 0, row 0", "inf"),
    "too-large": (put("episode_0/observations", np.full((7, 4), 1e300)), "episode 0, row 0", "inf"),
    "ragged": (put("episode_1/actions", np.zeros((8, 2), np.float32)), "episode 1", "8 rows, expected 9"),
    "no-last-observation": (put("episode_0/observations", np.zeros((6, 4), np.float32)), "episode 0", "6 rows"),
    "size-changes": (put("episode_2/actions", np.zeros((20, 3), np.float32)), "episode 2", "(3,)"),
    "dtype": (put("episode_2/actions", np.zeros((20, 2), complex)), "episode 2", "plain numbers"),
    "no-flags": (delete("episode_2/terminations"), "episode 2", "terminations"),
    "missing": (delete("episode_1"), "episode 1", "metadata.json"),
    "one-more": (lambda file: file.copy("episode_1", "episode_3"), "episode_3", "3 episodes"),
    "no-step": (
        lambda file: [put(f"episode_1/{n}", file[f"episode_1/{n}"][:0])(file) for n in ("actions", "rewards")],
        "episode 1",
        "no step",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_file_episode_and_row(copied, fault):
    change, place, what = FAULTS[fault]
    with pytest.raises(DatasetError) as error:
        open_dataset(damaged_by(copied("minari/box-hdf5"), change))
    assert all(word in str(error.value) for word in ("main_data.hdf5", place, what)), error.value


@pytest.mark.parametrize("name", ["discrete", "multi-discrete"])
def test_a_class_outside_its_space_is_named(write, tmp_path, name):
    place, _ = a_set(write, tmp_path, action=ACTIONS[name])
    with h5py.File(place / "data" / "main_data.hdf5", "a") as file:
        file["episode_1/actions"][2] = 9
    with pytest.raises(DatasetError, match=r"episode 1, row 2: the action is .* outside a space"):
        open_dataset(place)


def of_any_length(place):
    """Keep the pictures as texts of any length, as Minari does where an episode's do not weigh the same."""
    with h5py.File(place / "data" / "main_data.hdf5", "a") as file:
        for name in list(file):
            rows = file[f"{name}/observations/image"][()]
            del file[f"{name}/observations/image"]
            kept = file.create_dataset(f"{name}/observations/image", (len(rows),), h5py.vlen_dtype(np.uint8))
            for i, row in enumerate(rows):
                kept[i] = np.append(row, np.zeros(i, np.uint8))
    return place


def test_pictures_of_any_length_are_the_same_pictures(copied, sets):
    place = of_any_length(copied("minari/dict-jpeg-samelength-hdf5"))
    left, right = (open_dataset(one).episode(1) for one in (place, sets / "minari/dict-jpeg-samelength-hdf5"))
    assert (left["obs/image"] == right["obs/image"]).all()


@pytest.mark.parametrize("change", [lambda place: place, of_any_length], ids=["same length", "any length"])
def test_a_broken_picture_names_its_row_when_it_is_read(copied, change):
    place = change(copied("minari/dict-jpeg-samelength-hdf5"))
    with h5py.File(place / "data" / "main_data.hdf5", "a") as file:
        pictures = file["episode_1/observations/image"]
        pictures[3] = pictures[3][:20] if pictures.ndim == 1 else np.zeros(pictures.shape[1], np.uint8)
    recording = open_dataset(place).recording
    assert len(recording.read("obs/image", 1, 0, 3)) == 3
    with pytest.raises(DatasetError, match=r"main_data.hdf5, episode 1, row 3: .*no picture"):
        recording.read("obs/image", 1, 1, 6)


def test_a_heap_of_zeros_does_not_keep_the_reader_for_ever(copied):
    place = of_any_length(copied("minari/dict-jpeg-samelength-hdf5"))
    file = place / "data" / "main_data.hdf5"
    data = bytearray(file.read_bytes())
    at = data.index(b"GCOL") + 16
    length = int.from_bytes(data[at + 8 : at + 16], "little")
    second = at + 16 + -(-length // 8) * 8
    data[second : second + 64] = bytes(64)
    file.write_bytes(data)
    with pytest.raises(DatasetError, match=r"main_data.hdf5: the heap at byte [\d,]+ is damaged"):
        open_dataset(place)


def test_a_picture_of_another_size_is_not_unpacked(copied):
    import io

    from PIL import Image

    bomb = io.BytesIO()
    Image.new("RGB", (6000, 6000)).save(bomb, "JPEG")
    place = of_any_length(copied("minari/dict-jpeg-samelength-hdf5"))
    with h5py.File(place / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/observations/image"][2] = np.frombuffer(bomb.getvalue(), np.uint8)
    with pytest.raises(DatasetError, match=r"row 2: .*6000 x 6000, expected 32 x 40"):
        open_dataset(place).episode(0)


@pytest.mark.parametrize("name", ["box-arrow", "box-parquet"])
def test_a_table_cut_in_half_is_named_with_its_episode(copied, name):
    place = copied(f"minari/{name}")
    file = next((place / "data" / "1").glob("part-0.*"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DatasetError, match=rf"{file.name}, episode 1"):
        open_dataset(place)


def test_a_table_without_a_value_names_the_row(copied):
    import pyarrow as pa

    place = copied("minari/box-arrow")
    file = place / "data" / "2" / "part-0.arrow"
    table = pa.ipc.open_file(file.read_bytes()).read_all()
    rewards = pa.array([None if i == 4 else float(i) for i in range(table.num_rows)])
    table = table.set_column(table.column_names.index("rewards"), "rewards", rewards)
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DatasetError, match=r"part-0.arrow, episode 2, row 4: rewards has no value"):
        open_dataset(place)


def test_a_table_that_lacks_a_whole_observation_names_the_row(copied):
    import pyarrow as pa

    place = copied("minari/dict-discrete-arrow")
    file = place / "data" / "0" / "part-0.arrow"
    table = pa.ipc.open_file(file.read_bytes()).read_all()
    seen = table.column("observations").combine_chunks()
    fields = [seen.field(i) for i in range(len(seen.type))]
    seen = pa.StructArray.from_arrays(fields, fields=list(seen.type), mask=pa.array([i == 2 for i in range(len(seen))]))
    table = table.set_column(table.column_names.index("observations"), "observations", seen)
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(DatasetError, match=r"part-0.arrow, episode 0, row 2: observations has no value"):
        open_dataset(place)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"minari_version": "0.6.0"}, "written by Minari 0.6.0"),
        ({"data_format": "zarr"}, "data_format is 'zarr'"),
        ({"total_episodes": 0}, "total_episodes is 0"),
        ({"total_steps": 36}, "total_steps is 36, the episodes have 35"),
        ({"observation_space": None}, "no observation_space"),
        ({"action_space": "{}"}, "action_space cannot be read"),
        ({"action_space": '{"type": "Text"}'}, "action_space holds no numbers"),
    ],
)
def test_metadata_that_cannot_be_is_named(copied, said, words):
    place = copied("minari/box-hdf5")
    file = place / "data" / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
    with pytest.raises(DatasetError, match=rf"metadata.json: .*{words}"):
        open_dataset(place)


def test_rewards_that_are_not_those_it_was_written_with_are_said(copied):
    place = damaged_by(copied("minari/box-hdf5"), put("episode_1/rewards", np.arange(9.0)))
    assert any("rewards of episode 1 are not those" in remark for remark in open_dataset(place).remarks)


def test_ends_inside_an_episode_are_said(copied):
    place = damaged_by(copied("minari/box-hdf5"), put("episode_1/terminations", np.arange(9) == 4))
    dataset = open_dataset(place)
    assert any("goes on after a row" in remark for remark in dataset.remarks) and not dataset.episodes.terminal[1]


def test_an_unknown_option_is_named(sets):
    with pytest.raises(ConfigurationError, match="Did you mean 'info'"):
        open_dataset(sets / "minari/box-hdf5", infos=False)


@pytest.mark.parametrize("linked", ["data", "data/1", "data/1/part-0.arrow", "data/1/metadata.json"])
def test_a_link_out_of_the_folder_is_not_followed(copied, tmp_path, linked):
    place = copied("minari/box-arrow")
    moved = (place / linked).rename(tmp_path / "elsewhere")
    (place / linked).symlink_to(moved)
    with pytest.raises(DatasetError, match="out of its folder"):
        open_dataset(place)


def test_what_the_hub_s_client_links_to_is_read(copied, tmp_path):
    place = copied("minari/box-arrow")
    snapshot = tmp_path / "datasets--me--set" / "snapshots" / "abc"
    blobs = tmp_path / "datasets--me--set" / "blobs"
    blobs.mkdir(parents=True)
    for i, file in enumerate(sorted(one for one in place.rglob("*") if one.is_file())):
        link = snapshot / file.relative_to(place)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.rename(blobs / str(i)))
    assert len(open_dataset(snapshot).episodes) == 3
