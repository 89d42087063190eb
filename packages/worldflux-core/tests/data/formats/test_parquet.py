"""Tables with an episode and a step a row: in any order, in any number of files, images as bytes or as lists."""

from __future__ import annotations

import io

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind
from worldflux.data import DatasetError, open_dataset

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

LENGTHS = (4, 2, 6)


def table(**more):
    """Rows of three episodes in the arrival convention: the reward on arriving at k is k."""
    rng = np.random.default_rng(0)
    total = sum(LENGTHS)
    out = {
        "episode_index": np.repeat([0, 1, 2], LENGTHS),
        "step_index": np.concatenate([np.arange(n) for n in LENGTHS]),
        "observation": list(rng.normal(size=(total, 3)).astype(np.float32)),
        "action": list(rng.uniform(-1, 1, (total, 2)).astype(np.float32)),
        "reward": np.concatenate([np.arange(n, dtype=np.float32) for n in LENGTHS]),
        "is_first": np.concatenate([np.arange(n) == 0 for n in LENGTHS]),
        "is_terminal": np.arange(total) == 3,
    }
    return {name: value for name, value in (out | more).items() if value is not None}


def save(folder, columns, *, order=None, files=1, schema=None, **options):
    folder.mkdir(exist_ok=True)
    held = pa.table({name: pa.array(list(value), (schema or {}).get(name)) for name, value in columns.items()})
    held = held if order is None else held.take(order)
    cuts = np.linspace(0, len(held), files + 1).astype(int)
    for i, (start, stop) in enumerate(zip(cuts, cuts[1:])):
        pq.write_table(held.slice(start, stop - start), folder / f"train-{i}.parquet", row_group_size=5, **options)
    return folder


def episodes(data):
    return [data.episode(i) for i in range(len(data.episodes))]


def same(left, right):
    return all((a[name] == b[name]).all() for a, b in zip(left, right, strict=True) for name in a)


def test_neither_the_order_of_the_rows_nor_the_cut_of_the_files_matters(tmp_path):
    plain = open_dataset(save(tmp_path / "a", table()))
    assert plain.episodes.lengths.tolist() == [4, 2, 6] and plain.episodes.terminal.tolist() == [True, False, False]
    assert plain.episode(2)["reward"].tolist() == [0, 1, 2, 3, 4, 5]
    order = np.random.default_rng(1).permutation(12)
    mixed = open_dataset(save(tmp_path / "b", table(), order=order, files=3))
    assert same(episodes(plain), episodes(mixed)) and mixed.episodes.ids == ("0", "1", "2")


def test_episodes_may_be_named_and_steps_begin_at_one(tmp_path):
    columns = table(episode_index=None, run=np.repeat(["b", "a", "c"], LENGTHS))
    columns["step_index"] = columns["step_index"] + 1
    data = open_dataset(save(tmp_path / "d", columns), episode="run")
    assert data.episodes.ids == ("a", "b", "c") and data.episodes.lengths.tolist() == [2, 4, 6]


def test_without_a_step_the_rows_are_read_as_they_stand_if_they_stand_together(tmp_path):
    columns = table(step_index=None)
    data = open_dataset(save(tmp_path / "d", columns))
    assert data.episode(2)["reward"].tolist() == [0, 1, 2, 3, 4, 5]
    assert any("no column tells the step" in one for one in data.remarks)
    with pytest.raises(DatasetError, match="stand in several places and no column tells the step"):
        open_dataset(save(tmp_path / "e", columns, order=np.arange(12)[::-1] // 2 * 5 % 12))


def pictures(count, *, kind="PNG"):
    images = np.random.default_rng(2).integers(0, 255, (count, 6, 8, 3), np.uint8)
    from PIL import Image

    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind)
        encoded.append(buffer.getvalue())
    return images, encoded


@pytest.mark.parametrize("form", ["struct", "bytes", "lists", "grey"])
def test_images_may_be_bytes_or_nested_lists(tmp_path, form):
    pytest.importorskip("PIL")
    images, encoded = pictures(12)
    if form == "grey":
        images = images[..., 0]
    values = {
        "struct": [{"bytes": one, "path": None} for one in encoded],
        "bytes": encoded,
        "lists": images.tolist(),
        "grey": images.tolist(),
    }[form]
    lists = pa.list_(pa.list_(pa.uint8()))
    schema = {"lists": {"camera": pa.list_(lists)}, "grey": {"camera": lists}}.get(form, {})
    order = np.random.default_rng(1).permutation(12)
    data = open_dataset(save(tmp_path / "d", table(camera=values), order=order, files=2, schema=schema))
    expected = images[:, None] if form == "grey" else np.moveaxis(images, -1, 1)
    assert data.obs_spec["camera"].kind is ModalityKind.IMAGE and data.obs_spec["camera"].shape == expected.shape[1:]
    assert (data.episode(2)["obs/camera"] == expected[6:]).all()
    assert (data.recording.read("obs/camera", 0, 1, 4, 2) == expected[1:4:2]).all()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"bytes": None, "path": "a.png"}, "kept in another file, a.png"),
        ({"bytes": None, "path": None}, "camera is null"),
        ({"bytes": b"no picture", "path": None}, "camera is no picture that can be read"),
    ],
)
def test_an_image_that_is_none_is_refused_with_its_row(tmp_path, value, said):
    pytest.importorskip("PIL")
    values = [{"bytes": one, "path": None} for one in pictures(12)[1]]
    values[5] = value
    with pytest.raises(DatasetError, match=f"train-0.parquet, episode 1, row 1: .*{said}"):
        open_dataset(save(tmp_path / "d", table(camera=values)))


def test_images_of_several_sizes_are_refused_with_the_row(tmp_path):
    pytest.importorskip("PIL")
    from PIL import Image

    values = pictures(12)[1]
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(buffer, "PNG")
    values[11] = buffer.getvalue()
    with pytest.raises(DatasetError, match="episode 2, row 5: .*9 x 9, expected 6 x 8"):
        open_dataset(save(tmp_path / "d", table(camera=values)))


def gymnasium(*, padded):
    """The same rows paid after the action; ``padded``: the last row of each is its observation alone."""
    columns = table(is_first=None, is_terminal=None)
    ends = np.cumsum(LENGTHS) - 1
    rewards = [None if i in ends else float(columns["reward"][i + 1]) for i in range(12)]
    columns["terminated"] = np.arange(12) == (2 if padded else 3)
    if padded:
        actions = [None if i in ends else one for i, one in enumerate(columns["action"])]
        return columns | {"reward": rewards, "action": actions}
    return columns | {"reward": [9.0 if one is None else one for one in rewards]}


def test_a_last_row_that_is_an_observation_alone_is_gymnasiums_layout(tmp_path):
    plain = open_dataset(save(tmp_path / "a", table()))
    kind = {"action": pa.list_(pa.float32(), 2)}
    try:
        folder = save(tmp_path / "b", gymnasium(padded=True), schema=kind)
    except pa.lib.ArrowNotImplementedError:
        pytest.skip("this pyarrow writes no list of a fixed length that is missing")
    padded = open_dataset(folder, layout="gymnasium")
    assert padded.episodes.terminal.tolist() == [True, False, False]
    for left, right in zip(episodes(plain), episodes(padded), strict=True):
        assert (left["reward"] == right["reward"]).all() and (left["action"][:-1] == right["action"][:-1]).all()


def test_transitions_get_a_stand_in_row_for_their_last_reward(tmp_path):
    data = open_dataset(save(tmp_path / "d", gymnasium(padded=False)), layout="transitions")
    assert data.episodes.lengths.tolist() == [5, 3, 7] and data.episodes.stand_in.all()
    assert (
        data.episode(0)["reward"].tolist() == [0, 1, 2, 3, 9]
        and data.episodes.terminal.tolist() == [True] + [False] * 2
    )
    assert (data.episode(0)["obs/obs"][-1] == data.episode(0)["obs/obs"][-2]).all()
    strict = open_dataset(tmp_path / "d", layout="transitions", tail="drop")
    assert strict.episodes.lengths.tolist() == [4, 2, 6] and not strict.episodes.terminal.any()


def test_a_last_reward_is_never_lost_in_silence(tmp_path):
    folder = save(tmp_path / "d", gymnasium(padded=False))
    with pytest.raises(DatasetError, match="nothing tells whether 'reward'"):
        open_dataset(folder)
    with pytest.raises(DatasetError, match="reward of the last row is 9.*layout='transitions'"):
        open_dataset(folder, layout="gymnasium")


def at(index, value, name):
    values = list(table()[name])
    values[index] = value
    return {name: values}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (at(7, None, "reward"), "episode 2, row 1: reward is null"),
        (at(7, float("nan"), "reward"), "episode 2, row 1: reward is nan"),
        (at(5, [1.0, 2.0], "observation"), "episode 1, row 1: observation has 2 entries, 3 elsewhere"),
        (at(5, [1.0, None, 2.0], "observation"), "episode 1, row 1: observation holds a null"),
        (at(5, [1.0, 1e300, 2.0], "observation"), "episode 1, row 1: obs is 1e\\+300"),
        (at(6, None, "action"), "episode 2, row 0: action is null"),
        (at(8, None, "action"), "episode 2, row 2: action is null"),
        (at(8, 1, "step_index"), "episode 2, row 1: step 1 stands twice"),
        (at(8, 9, "step_index"), "episode 2, row 2: there is no step 2, the next is 3"),
        (at(6, None, "episode_index"), "train-0.parquet: episode_index is null in row 6 of the file"),
        (at(8, True, "is_first"), "episode 2, row 2: is_first is true in mid-episode"),
        (at(6, False, "is_first"), "episode 2, row 0: is_first is false"),
        (at(8, True, "is_terminal"), "episode 2, row 2: is_terminal is true in mid-episode"),
        ({"step_index": np.arange(12) / 2}, "'step_index' holds float64, expected whole numbers"),
    ],
)
def test_rows_that_do_not_go_together_are_refused_with_their_place(tmp_path, change, said):
    doubles = {name: pa.list_(pa.float64()) for name in ("observation", "action")}
    with pytest.raises(DatasetError, match=said):
        open_dataset(save(tmp_path / "d", table() | change, schema=doubles))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"episode": "run"}, "has no such column, it has"),
        ({"split": "test"}, "none of train-0.parquet is of it"),
        ({"layout": "rows"}, "layout is 'rows'"),
        ({"steps": "t"}, "Did you mean 'step'"),
        ({"obs": "observations"}, "Did you mean 'observation'"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, options, said):
    with pytest.raises(ConfigurationError, match=said):
        open_dataset(save(tmp_path / "d", table()), **options)


def test_a_table_without_an_episode_column_says_how_to_name_one(tmp_path):
    columns = table(episode_index=None, run=np.repeat([0, 1, 2], LENGTHS))
    with pytest.raises(ConfigurationError, match="name it, as in episode='run_id'"):
        open_dataset(save(tmp_path / "d", columns))


def test_files_with_other_columns_are_refused_by_name(tmp_path):
    save(tmp_path / "d", table())
    pq.write_table(pa.table({"episode_index": [9], "step_index": [0]}), tmp_path / "d" / "train-1.parquet")
    with pytest.raises(DatasetError, match=r"train-1\.parquet: column 'observation' is missing"):
        open_dataset(tmp_path / "d")


def test_dictionaries_large_lists_and_half_floats_are_numbers_too(tmp_path):
    columns = table(episode_index=None, observation=None, action=None)
    held = pa.table(columns).append_column(
        "episode", pa.array(np.repeat(["x", "y", "z"], LENGTHS).tolist()).dictionary_encode()
    )
    values = np.arange(24, dtype=np.float16).reshape(12, 2)
    held = held.append_column("state", pa.array(list(values), pa.large_list(pa.float16())))
    held = held.append_column("action", pa.array([i % 3 for i in range(12)], pa.int8()))
    (tmp_path / "d").mkdir()
    pq.write_table(held, tmp_path / "d" / "all.parquet")
    data = open_dataset(tmp_path / "d" / "all.parquet")
    assert (data.episode(0)["obs/state"] == values[:4]).all() and data.action_spec.num_actions == 3


def test_a_page_whose_checksum_is_kept_is_checked(tmp_path):
    folder = save(tmp_path / "d", table(), write_page_checksum=True, compression="none", use_dictionary=False)
    file = folder / "train-0.parquet"
    data, wanted = bytearray(file.read_bytes()), np.float32(table()["observation"][0]).tobytes()
    data[data.index(wanted)] ^= 1
    file.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train-0\.parquet: column 'observation' cannot be read"):
        open_dataset(folder)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    folder = save(tmp_path / "d", table())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'worldflux-core\[data\]'"):
        open_dataset(folder)


def test_a_reward_called_the_next_one_was_paid_after_the_action(tmp_path):
    columns = gymnasium(padded=False)
    columns["next.reward"], columns["next.done"] = columns.pop("reward"), columns.pop("terminated")
    data = open_dataset(save(tmp_path / "d", columns))
    assert data.episode(0)["reward"].tolist() == [0, 1, 2, 3, 9] and data.episodes.stand_in.all()
    assert not data.episodes.terminal.any()
