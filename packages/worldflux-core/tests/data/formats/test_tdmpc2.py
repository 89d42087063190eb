"""TD-MPC2's tensors: the action that led to a row, tasks, padding, and pickles of which none is ever run."""

from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ModalityKind
from worldflux.data import DatasetError, open_dataset


def tensors(episodes=3, rows=6, *, filler=float("nan"), tasks=(0, 1, 1)):
    generator = torch.Generator().manual_seed(0)
    out = {
        "obs": torch.randn(episodes, rows, 5, generator=generator),
        "action": torch.rand(episodes, rows, 3, generator=generator) * 2 - 1,
        "reward": torch.arange(rows, dtype=torch.float32).repeat(episodes, 1),
        "task": torch.tensor(tasks, dtype=torch.int32)[:, None].repeat(1, rows),
    }
    out["action"][:, 0] = filler
    out["reward"][:, 0] = filler
    for i, task in enumerate(tasks):
        if task == 1:  # the narrow one
            out["obs"][i, :, 3:], out["action"][i, 1:, 2:] = 0, 0
    return out


def save(folder, held, name="chunk_0.pt"):
    folder.mkdir(exist_ok=True)
    torch.save(held, folder / name)
    return folder


@pytest.mark.parametrize("filler", [float("nan"), 0.0, 7.5])
def test_the_action_and_the_reward_of_a_row_are_those_that_led_to_it(tmp_path, filler):
    held = tensors(filler=filler)
    data = open_dataset(save(tmp_path / "d", held))
    assert data.recording.format == "tdmpc2" and data.episodes.lengths.tolist() == [6, 6, 6]
    for i in range(3):
        got = data.episode(i)
        assert (got["action"][:-1] == held["action"][i, 1:].numpy()).all() and not got["action"][-1].any()
        assert got["reward"].tolist() == [0, 1, 2, 3, 4, 5]
        assert got["info/task"].tolist() == [[0, 1, 1][i]] * len(got["info/task"])  # a number a row, as models take it
        assert not got["is_terminal"].any()


def test_windows_hold_the_same_rows(tmp_path):
    held = tensors()
    data = open_dataset(save(tmp_path / "d", held))
    batch = data.batch(np.array([2, 0]), np.array([3, 1]), 3)
    assert (batch.obs["obs"] == torch.stack([held["obs"][2, 3:6], held["obs"][0, 1:4]])).all()
    assert (batch.actions[0, :2] == held["action"][2, 4:6]).all() and not batch.actions[0, 2].any()
    assert batch.rewards.tolist() == [[3, 4, 5], [1, 2, 3]]


def test_tasks_are_picked_and_what_pads_their_rows_is_cut(tmp_path):
    held = tensors()
    data = open_dataset(save(tmp_path / "d", held), tasks=[1], obs_dim=3, action_dim=2)
    assert data.episodes.ids == ("chunk_0-1", "chunk_0-2")
    assert (data.obs_spec["obs"].shape, data.action_spec.dim) == ((3,), 2)
    assert (data.episode(0)["obs/obs"] == held["obs"][1, :, :3].numpy()).all()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"obs_dim": 3}, DatasetError, "chunk_0.pt, episode 0: obs has 5 numbers that are not zero"),
        ({"tasks": 9}, ConfigurationError, r"has no such task, it has \[0, 1\]"),
        ({"tasks": "walk"}, ConfigurationError, "tasks is 'walk'"),
        ({"action_dim": 4}, ConfigurationError, "from 1 to 3"),
        ({"task": 1}, ConfigurationError, "Did you mean 'tasks'"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        open_dataset(save(tmp_path / "d", tensors()), **options)


def flat():
    lengths = [4, 6]
    held = {
        "obs": torch.randn(10, 4),
        "action": torch.rand(10, 2),
        "reward": torch.cat([torch.arange(n, dtype=torch.float32) for n in lengths]),
        "terminated": torch.zeros(10),
        "episode": torch.repeat_interleave(torch.tensor([5, 6]), torch.tensor(lengths)),
    }
    held["terminated"][3] = 1
    return held


def test_flat_rows_are_parted_by_their_episode_and_end_in_truth_where_they_say_so(tmp_path):
    data = open_dataset(save(tmp_path / "d", flat()))
    assert data.episodes.lengths.tolist() == [4, 6] and data.episodes.terminal.tolist() == [True, False]


def test_pictures_and_named_observations_are_read_as_they_stand(tmp_path):
    held = flat()
    held["obs"] = {"rgb": torch.randint(0, 255, (10, 9, 8, 8), dtype=torch.uint8), "state": torch.randn(10, 4)}
    data = open_dataset(save(tmp_path / "d", held))
    assert data.obs_spec["rgb"].kind is ModalityKind.IMAGE and data.obs_spec["rgb"].shape == (9, 8, 8)
    assert (data.episode(1)["obs/rgb"] == held["obs"]["rgb"][4:].numpy()).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held["reward"].__setitem__((1, 3), float("nan")), "episode 1, row 3: reward is nan"),
        (lambda held: held["obs"].__setitem__((2, 0, 1), float("inf")), "episode 2, row 0: obs is inf"),
        (lambda held: held["action"].__setitem__((0, 5, 2), float("nan")), "episode 0, row 5: action is nan"),
        (lambda held: held["task"].__setitem__((1, 4), 3), "episode 1, row 4: task changes from 1 to 3"),
        (lambda held: held.pop("action"), "it holds no 'action', but obs, reward, task"),
        (lambda held: held.update(reward=held["reward"][:, :5]), r"action is \[3, 6, 3\]|obs is \[3, 6, 5\], but"),
        (lambda held: held.update(obs=held["obs"].to_sparse()), "no plain tensor"),
        (lambda held: held.update(obs=torch.zeros(1).expand(3, 6, 5)), "more than the file holds"),
        (lambda held: held.update(task=held["task"].float()), "task is float32"),
        (lambda held: held.update({name: held[name][:0] for name in list(held)}), "no rows"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, change, said):
    held = tensors()
    change(held)
    with pytest.raises(DatasetError, match=said) as refused:
        open_dataset(save(tmp_path / "d", held))
    assert "chunk_0.pt" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.pop("episode"), "no 'episode' tells where one ends"),
        (lambda held: held["episode"].__setitem__(9, 5), "episode 5 stand in several places"),
        (lambda held: held["terminated"].__setitem__(1, 1), "episode 0, row 1: terminated in the middle"),
    ],
)
def test_flat_rows_that_cannot_be_parted_are_refused(tmp_path, change, said):
    held = flat()
    change(held)
    with pytest.raises(DatasetError, match=said):
        open_dataset(save(tmp_path / "d", held))


def test_files_of_other_shapes_are_refused_with_both_names(tmp_path):
    save(tmp_path / "d", tensors())
    other = tensors()
    save(tmp_path / "d", other | {"obs": other["obs"][..., :4]}, "chunk_1.pt")
    with pytest.raises(DatasetError, match=r"chunk_1\.pt: obs is \[4\] a row, \[5\] in chunk_0\.pt"):
        open_dataset(tmp_path / "d")


class _Loud:
    def __init__(self, what):
        self._what = what

    def __reduce__(self):
        return self._what


@pytest.mark.parametrize("call", [(print, ("EXECUTED",)), (eval, ("1+1",)), (torch.load, ("x",))])
def test_a_pickle_that_wants_code_to_run_is_refused_and_nothing_runs(tmp_path, capsys, call):
    save(tmp_path / "d", tensors() | {"extra": _Loud(call)})
    with pytest.raises(DatasetError, match=r"chunk_0\.pt: .*only tensors are read, nothing was run"):
        open_dataset(tmp_path / "d")
    assert "EXECUTED" not in capsys.readouterr().out


def test_other_pickles_are_refused_by_name(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "chunk_0.pt").write_bytes(pickle.dumps({"obs": 1}))
    with pytest.raises(DatasetError, match="not a readable .pt"):
        open_dataset(folder, format="tdmpc2")
    torch.save([torch.zeros(3)], folder / "chunk_0.pt")
    with pytest.raises(DatasetError, match="it holds a list, expected a dict or a TensorDict"):
        open_dataset(folder)


def test_a_flipped_bit_which_torch_would_not_notice_is_refused(tmp_path):
    held = tensors()
    file = save(tmp_path / "d", held) / "chunk_0.pt"
    data = bytearray(file.read_bytes())
    at = data.index(held["obs"].numpy().tobytes()[:16])
    data[at + 5] ^= 4
    file.write_bytes(data)
    assert not torch.equal(torch.load(file)["obs"], held["obs"])  # silently other numbers
    with pytest.raises(DatasetError, match=r"chunk_0\.pt: not a readable \.pt: Bad CRC-32"):
        open_dataset(tmp_path / "d")


def test_an_archive_that_torch_never_writes_is_refused(tmp_path):
    file = save(tmp_path / "d", tensors()) / "chunk_0.pt"
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    with pytest.raises(DatasetError, match="is packed, which torch never does"):
        open_dataset(tmp_path / "d")


def test_nobody_is_advised_to_trust_a_file(tmp_path):
    file = save(tmp_path / "d", tensors()) / "chunk_0.pt"
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, b"\x80\x02cos\nsystem\n(R." if name.endswith("data.pkl") else data)
    with pytest.raises(DatasetError) as refused:
        open_dataset(tmp_path / "d")
    assert "trust" not in str(refused.value) and "weights_only" not in str(refused.value)
