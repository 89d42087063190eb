"""A folder of npz files is a dataset: which column is what, when rewards were paid, and errors that say what to do."""

from __future__ import annotations

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind
from worldflux.data import DatasetError, open_dataset


def steps(count: int = 4, *, seed: int = 0):
    """Observations of ``count + 1`` rows, and ``count`` actions and rewards: the reward on arriving at k is k."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(count + 1, 3)).astype(np.float32)
    return seen, rng.uniform(-1, 1, (count, 2)).astype(np.float32), np.arange(1, count + 1, dtype=np.float32)


def save(folder, index=0, **columns):
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / f"episode_{index}.npz", **columns)
    return folder


def gymnasium(folder, index=0, **more):
    seen, acted, paid = steps(4 + index, seed=index)
    return save(folder, index, **{"observations": seen, "actions": acted, "rewards": paid} | more)


def test_one_observation_more_than_actions_is_gymnasiums_layout(tmp_path):
    seen, acted, _ = steps(4)
    ended = np.arange(4) == 3
    data = open_dataset(gymnasium(tmp_path / "d", terminations=ended, truncations=~ended & False))
    got = data.episode(0)
    assert (got["obs/obs"] == seen).all() and got["reward"].tolist() == [0, 1, 2, 3, 4]
    assert (got["action"][:-1] == acted).all() and data.episodes.terminal.tolist() == [True]


def test_episodes_are_in_the_order_of_their_numbers(tmp_path):
    for index in (0, 2, 10):
        gymnasium(tmp_path / "d", index)
    assert open_dataset(tmp_path / "d").episodes.ids == ("episode_0", "episode_2", "episode_10")


def test_rows_of_one_length_with_first_rows_marked_are_in_the_arrival_convention(tmp_path):
    seen, acted, paid = steps(4)
    held = {"state": seen[1:], "action": acted, "reward": paid - 1, "is_first": np.arange(4) == 0}
    got = open_dataset(save(tmp_path / "d", **held)).episode(0)
    assert got["reward"].tolist() == [0, 1, 2, 3] and (got["obs/state"] == seen[1:]).all()


def test_rows_of_one_length_that_nothing_tells_apart_are_asked_about(tmp_path):
    seen, acted, paid = steps(4)
    folder = save(tmp_path / "d", obs=seen[:-1], action=acted, reward=paid, done=np.arange(4) == 3)
    with pytest.raises(DatasetError, match="layout='arrival' or layout='transitions'"):
        open_dataset(folder)


def test_transitions_end_in_a_marked_stand_in_that_keeps_the_last_reward_and_the_end(tmp_path):
    seen, acted, paid = steps(4)
    image = np.random.default_rng(0).integers(0, 255, (4, 6, 7, 3), np.uint8)
    held = {"obs": seen[:-1], "image": image, "action": acted, "reward": paid, "terminal": np.arange(4) == 3}
    data = open_dataset(save(tmp_path / "d", **held), layout="transitions")
    got = data.episode(0)
    assert data.episodes.stand_in.tolist() == [True] and data.episodes.terminal.tolist() == [True]
    assert got["reward"].tolist() == [0, 1, 2, 3, 4] and len(got["obs/obs"]) == 5
    assert (got["obs/obs"][-1] == seen[3]).all() and (got["obs/image"][-1] == got["obs/image"][-2]).all()
    strict = open_dataset(tmp_path / "d", layout="transitions", tail="drop")
    assert strict.episode(0)["reward"].tolist() == [0, 1, 2, 3] and not strict.episodes.terminal.any()
    assert any("stand-in" in one for one in data.remarks) and any("left out" in one for one in strict.remarks)


def test_transitions_without_reward_or_end_need_no_stand_in(tmp_path):
    seen, acted, _ = steps(4)
    data = open_dataset(save(tmp_path / "d", obs=seen[:-1], action=acted), layout="transitions")
    assert data.episodes.lengths.tolist() == [4] and not data.episodes.stand_in.any() and not data.has_rewards


def test_a_first_reward_that_is_not_zero_is_never_taken_for_one_on_arriving(tmp_path):
    seen, acted, paid = steps(4)
    with pytest.raises(DatasetError, match="nothing tells whether 'reward'"):
        open_dataset(save(tmp_path / "d", obs=seen[:-1], action=acted, reward=paid))


def test_columns_are_named_by_options(tmp_path):
    seen, acted, paid = steps(4)
    held = {"proprio": seen, "camera": np.zeros((5, 8, 9), np.uint8), "u": acted, "score": paid, "mass": seen[:, :1]}
    data = open_dataset(
        save(tmp_path / "d", **held), obs=["proprio", "camera"], action="u", reward="score", info="mass"
    )
    assert set(data.obs_spec) == {"proprio", "camera"} and data.obs_spec["camera"].shape == (1, 8, 9)
    assert data.obs_spec["camera"].kind is ModalityKind.IMAGE
    assert data.episode(0)["info/mass"].shape == (5, 1) and data.episode(0)["reward"].tolist() == [0, 1, 2, 3, 4]


def test_what_was_guessed_and_what_was_left_out_is_said(tmp_path):
    seen, acted, paid = steps(4)
    held = {"state": seen, "goal": seen, "action": acted, "reward": paid, "dones": np.arange(4) == 3}
    data = open_dataset(save(tmp_path / "d", **held, note=np.array("pick up"), seed=np.int64(3), discount=paid))
    said = " | ".join(data.remarks)
    assert "state, goal" in said and "left out: discount, note, seed" in said and "terminal='dones'" in said
    assert not data.episodes.terminal.any()
    assert open_dataset(tmp_path / "d", terminal="dones").episodes.terminal.all()


def test_a_single_number_a_row_is_a_vector_of_one(tmp_path):
    _, acted, paid = steps(4)
    data = open_dataset(save(tmp_path / "d", obs=np.arange(5.0), action=acted[:, 0], reward=paid[:, None]))
    assert data.obs_spec["obs"].shape == (1,) and data.action_spec.dim == 1
    assert data.episode(0)["reward"].tolist() == [0, 1, 2, 3, 4]


def test_whole_numbers_are_classes_and_several_are_parts(tmp_path):
    seen, _, paid = steps(4)
    data = open_dataset(save(tmp_path / "one", obs=seen, action=np.array([0, 2, 1, 2]), reward=paid))
    assert (data.action_spec.kind, data.action_spec.dim) == ("discrete", 3)
    assert data.episode(0)["action"].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert any("num_actions=" in one for one in data.remarks)
    two = open_dataset(save(tmp_path / "two", obs=seen, action=np.array([[0, 1], [2, 0], [1, 1], [0, 0]])))
    assert (two.action_spec.kind, [part.dim for part in two.action_spec.parts]) == ("multi", [3, 2])
    assert two.episode(0)["action"][1].tolist() == [0, 0, 1, 1, 0]


def test_actions_are_scaled_by_the_bounds_that_are_given_and_said_to_be_outside_if_they_are_not(tmp_path):
    seen, acted, paid = steps(4)
    folder = save(tmp_path / "d", obs=seen, action=2 * acted, reward=paid)
    assert any("outside [-1, 1]" in one for one in open_dataset(folder).remarks)
    scaled = open_dataset(folder, action_low=-2, action_high=[2, 2])
    assert np.allclose(scaled.episode(0)["action"][:-1], acted, atol=1e-6)
    assert not any("outside [-1, 1]" in one for one in scaled.remarks)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lay_out": "arrival"}, "no option 'lay_out'.*Did you mean 'layout'"),
        ({"layout": "gym"}, "layout is 'gym'"),
        ({"layout": "transitions"}, "that is 'gymnasium'"),
        ({"obs": "observation"}, "has no such column, it has .*Did you mean 'observations'"),
        ({"action_low": -1}, "go together"),
        ({"action_low": [1, 1, 1], "action_high": 2}, "no bounds of 2 numbers"),
        ({"action_low": 1, "action_high": -1}, "must be below"),
        ({"num_actions": 0}, "num_actions is 0"),
        ({"num_actions": 3, "discrete": False}, "leave one out"),
        ({"tail": "keep"}, "tail is 'keep'"),
        ({"obs": []}, "no column left to observe"),
    ],
)
def test_an_option_that_does_not_fit_is_refused_with_what_would(tmp_path, options, said):
    gymnasium(tmp_path / "d")
    with pytest.raises(ConfigurationError, match=said):
        open_dataset(tmp_path / "d", **options)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rewards": np.zeros(3, np.float32)}, "'rewards' has 3 rows, expected 5 or 6"),
        ({"observations": np.zeros((9, 3))}, r"9 rows of 'observations' and 5 of 'actions', expected as many"),
        ({"rewards": np.array(["a"] * 5)}, r"'rewards' is no plain numbers .*np\.asarray\(rows, np\.float32\)"),
        ({"rewards": np.float32([1, 2, np.nan, 4, 5])}, "row 2: rewards is nan"),
        ({"actions": np.full((5, 2), np.inf)}, "row 0: actions is inf"),
        ({"observations": np.full((6, 3), np.nan)}, "row 0: obs is nan"),
        ({"actions": np.zeros((5, 3), np.float32)}, r"'actions' is float32\[3\] a row, float32\[2\] in episode_0.npz"),
        ({"terminations": np.arange(5) == 1}, "row 1: terminations is true in the middle"),
        ({"terminations": np.arange(5) / 2}, "expected one true or false a row"),
        ({"rewards": np.array([None] * 5)}, "'rewards' is an array of Python objects.*never loaded"),
        ({"rewards": np.zeros((5, 2))}, r"float64\[2\] a row, float32\[\] in episode_0.npz"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_name_and_episode(tmp_path, change, said):
    gymnasium(tmp_path / "d", 0, terminations=np.zeros(4, bool))
    gymnasium(tmp_path / "d", 2, terminations=np.zeros(6, bool))
    gymnasium(tmp_path / "d", 1, **{"terminations": np.zeros(5, bool)} | change)
    with pytest.raises(DatasetError, match=said) as refused:
        open_dataset(tmp_path / "d")
    assert "episode_1.npz, episode 1" in str(refused.value)


def test_an_episode_without_a_step_is_refused(tmp_path):
    save(tmp_path / "d", observations=np.zeros((1, 3)), actions=np.zeros((0, 2)), rewards=np.zeros(0))
    with pytest.raises(DatasetError, match=r"episode 0: it has 1 row .* and at least one action"):
        open_dataset(tmp_path / "d")


def test_files_of_two_layouts_are_refused(tmp_path):
    gymnasium(tmp_path / "d", 0)
    seen, acted, paid = steps(4)
    save(tmp_path / "d", 1, observations=seen[1:], actions=acted, rewards=paid)
    with pytest.raises(DatasetError, match=r"episode_1\.npz.*give all files one layout"):
        open_dataset(tmp_path / "d")


def test_what_claims_more_than_memory_holds_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    from worldflux.data.formats.common import npz_files

    gymnasium(tmp_path / "d")
    monkeypatch.setattr(npz_files, "memory", lambda: 100)
    with pytest.raises(DatasetError, match="over a quarter of this machine's memory"):
        open_dataset(tmp_path / "d")


def test_two_arrays_of_one_name_and_an_empty_archive_are_refused(tmp_path):
    import zipfile

    gymnasium(tmp_path / "d")
    file = tmp_path / "d" / "episode_0.npz"
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("rewards.npy", archive.read("rewards.npy"))
    with pytest.raises(DatasetError, match="two arrays called 'rewards'"):
        open_dataset(tmp_path / "d")
    zipfile.ZipFile(file, "w").close()
    with pytest.raises(DatasetError, match="it holds no arrays"):
        open_dataset(tmp_path / "d")


def test_several_episodes_in_a_file_are_refused_unless_the_flag_means_something_else(tmp_path):
    folder = gymnasium(tmp_path / "d", dones=np.arange(4) == 1)
    with pytest.raises(DatasetError, match=r"row 1: dones is true in the middle of the file.*stops=\[\]"):
        open_dataset(folder)
    assert open_dataset(folder, stops=[]).episodes.lengths.tolist() == [5]


def test_columns_that_would_come_to_one_name_keep_their_own(tmp_path):
    seen, acted, _ = steps(4)
    held = {"observation": seen, "obs": 2 * seen, "obs/arm": seen, "action": acted, "info/mass": seen[:, :1]}
    data = open_dataset(save(tmp_path / "d", **held))
    assert set(data.obs_spec) == {"observation", "obs", "arm"} and set(data.info_spec) == {"mass"}
    assert (data.episode(0)["obs/obs"] == 2 * seen).all() and (data.episode(0)["obs/observation"] == seen).all()


def test_parts_of_actions_and_of_what_comes_next_are_not_observed(tmp_path):
    seen, acted, _ = steps(4)
    held = {"observation": seen[:-1], "next_observation": seen[1:], "action/arm": acted}
    data = open_dataset(save(tmp_path / "d", **held))
    assert set(data.obs_spec) == {"obs"} and any(
        "left out: action/arm, next_observation" in one for one in data.remarks
    )


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    gymnasium(tmp_path / "elsewhere", 1)
    gymnasium(tmp_path / "d", 0)
    (tmp_path / "d" / "episode_1.npz").symlink_to(tmp_path / "elsewhere" / "episode_1.npz")
    with pytest.raises(DatasetError, match=r"episode_1\.npz: it is a link to .*, out of its folder"):
        open_dataset(tmp_path / "d")


def test_names_with_any_characters_are_sorted(tmp_path):
    for index, name in enumerate(("x²", "x10", "x9", "x٣")):
        gymnasium(tmp_path / "d", index)
        (tmp_path / "d" / f"episode_{index}.npz").rename(tmp_path / "d" / f"{name}.npz")
    assert open_dataset(tmp_path / "d").episodes.ids == ("x٣", "x9", "x10", "x²")
