"""Windows over recorded episodes: every start, every k-th row, several datasets, and going on exactly."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError, CheckpointError, ConfigurationError
from worldflux.core.spec import ActionPart, ActionSpec, ModalitySpec
from worldflux.data import BatchRequest, Dataset, EpisodeTable, Recording, mix
from worldflux.envs.skipping import skipped_actions

STATE, OTHER = ModalitySpec("vector", (2,)), ModalitySpec("vector", (3,))


def recorded(lengths: list[int], *, place: str = "here", terminal=None, stand_in=None, rewards: bool = True) -> Dataset:
    """Observation (episode, row), action 100 * episode + row, reward 2 ** row."""
    table = EpisodeTable.of(range(len(lengths)), lengths, terminal, stand_in)
    row = np.concatenate([np.arange(n) for n in lengths])
    episode = np.repeat(np.arange(len(lengths)), lengths)
    columns = {
        "obs/state": np.stack([episode, row], 1).astype(np.float32),
        "obs/other": np.zeros((len(row), 3), np.float32),
        "action": (100 * episode + row)[:, None].astype(np.float32),
        "info/task": episode,
    }
    if rewards:
        columns["reward"] = np.where(row == 0, 0, 2.0 ** (row % 16)).astype(np.float32)
    specs = {"obs_spec": {"state": STATE, "other": OTHER}, "action_spec": ActionSpec("continuous", 1)}
    info = {"task": ModalitySpec("vector", (), "int64")}
    return Dataset(Recording("memory", Path(place), episodes=table, columns=columns, info_spec=info, **specs))


def test_every_start_is_drawn_and_the_flags_are_the_episodes() -> None:
    dataset = recorded([4, 2, 6], terminal=[True, False, False])
    windows = dataset.windows(3)
    assert windows.count() == 2 + 0 + 4
    batch = windows.sample(300)
    places = {tuple(map(int, window[0])) for window in batch.obs["state"]}
    assert places == {(0, 0), (0, 1), (2, 0), (2, 1), (2, 2), (2, 3)}
    episode, row = batch.obs["state"].unbind(-1)
    assert torch.equal(batch.is_first, row == 0)
    assert torch.equal(batch.is_last, row == torch.tensor([4, 2, 6])[episode.long()] - 1)
    assert torch.equal(batch.is_terminal, batch.is_last & (episode == 0))
    assert torch.equal(batch.actions[..., 0], 100 * episode + row)
    assert torch.equal(batch.extras["wf.data.index"], torch.tensor([0, 4, 6])[episode.long()] + row.long())
    assert torch.equal(batch.extras["wf.data.task"], episode.long())


@pytest.mark.parametrize("skip", [2, 3])
def test_with_frame_skip_an_action_is_those_between_two_kept_rows_and_a_reward_their_sum(skip) -> None:
    dataset = recorded([9, 14], terminal=[True, True])
    batch = dataset.windows(3, frame_skip=skip).sample(400)
    lengths = torch.tensor([9, 14])
    for b in range(400):
        episode = int(batch.obs["state"][b, 0, 0])
        rows = batch.obs["state"][b, :, 1].long()
        assert (rows.diff() == skip).all()
        for t, row in enumerate(rows.tolist()):
            taken = [100 * episode + i if i < lengths[episode] else 0 for i in range(row, row + skip)]
            assert batch.actions[b, t].tolist() == taken
            assert batch.rewards[b, t] == sum(2.0**i for i in range(max(row - skip + 1, 1), row + 1))
        assert torch.equal(batch.is_first[b], rows == 0)
        assert torch.equal(batch.is_terminal[b], rows == lengths[episode] - 1)
    ended = batch.is_terminal.any(1)
    assert {0, 1} == {int(e) for e in batch.obs["state"][ended, 0, 0]} and not ended.all()


def test_with_frame_skip_the_action_spec_says_what_the_actions_are() -> None:
    dataset = recorded([9])
    assert dataset.windows(3, frame_skip=4).action_spec == ActionSpec("continuous", 4)
    assert dataset.windows(3).action_spec == dataset.action_spec
    both = ActionSpec("multi", parts=(ActionPart("a", "discrete", 2), ActionPart("b", "continuous", 1)))
    parts = skipped_actions(both, 11).leaves()
    assert [part.name for part in parts[:3]] == ["00/a", "00/b", "01/a"] and parts[-1].name == "10/b"
    assert [part.dim for part in parts] == [2, 1] * 11


def test_windows_that_cross_run_into_the_next_episode_of_the_dataset() -> None:
    dataset = recorded([4, 2, 6]).select([0, 2, 1])
    windows = dataset.windows(5, boundary="cross")
    assert windows.count() == 12 - 5 + 1
    line = [(0, i) for i in range(4)] + [(2, i) for i in range(6)] + [(1, i) for i in range(2)]
    seen = set()
    batch = windows.sample(200)
    for b in range(200):
        places = [tuple(map(int, place)) for place in batch.obs["state"][b].tolist()]
        at = line.index(places[0])
        seen.add(at)
        assert places == line[at : at + 5]
        assert batch.is_first[b].tolist() == [row == 0 for _, row in places]
        assert batch.rewards[b][batch.is_first[b]].sum() == 0
    assert seen == set(range(8))


def test_crossing_with_frame_skip_marks_where_nobody_watched_on() -> None:
    dataset = recorded([4, 5], terminal=[True, True])
    windows = dataset.windows(4, frame_skip=2, boundary="cross")
    batch = windows.sample(60)
    assert {tuple(map(int, window[0])) for window in batch.obs["state"]} == {(0, 0), (0, 1), (0, 2), (0, 3)}
    for b in range(60):
        rows, start = batch.obs["state"][b, :, 1].tolist(), int(batch.obs["state"][b, 0, 1])
        own = [start] if start > 1 else [start, start + 2]
        assert rows == [*own, 0, 2, 4][:4]
        assert batch.is_last[b].tolist()[len(own) - 1] and bool(batch.is_terminal[b, len(own) - 1]) == (start % 2 == 1)
        assert batch.rewards[b, len(own)] == 0


def test_a_stand_in_is_left_out_where_it_is_asked() -> None:
    dataset = recorded([4, 4], stand_in=[True, False])
    batch = dataset.windows(3, stand_ins=False).sample(100)
    assert {tuple(map(int, place)) for place in batch.obs["state"].reshape(-1, 2)}.isdisjoint({(0, 3)})
    assert dataset.windows(3, stand_ins=False).count() == 3 and dataset.windows(3).count() == 4


def test_only_the_observations_that_are_asked_for_are_read() -> None:
    dataset = recorded([5])
    read = []
    gather = dataset.recording.gather
    dataset.recording.gather = lambda name, *args: read.append(name) or gather(name, *args)
    assert set(dataset.windows(2, obs=["state"]).sample(3).obs) == {"state"} and "obs/other" not in read
    with pytest.raises(ConfigurationError, match="no observation 'stat', only state, other"):
        dataset.windows(2, obs=["stat"])


def test_what_cannot_be_drawn_says_the_longest_there_is() -> None:
    dataset = recorded([4, 2])
    with pytest.raises(BufferError, match="no episode has 5 rows, the longest has 4"):
        dataset.windows(5).sample(1)
    with pytest.raises(BufferError, match="no episode has 3 rows 2 apart"):
        dataset.windows(3, frame_skip=2).sample(1)
    with pytest.raises(BufferError, match="all episodes together have no 7 rows"):
        dataset.windows(7, boundary="cross").sample(1)
    with pytest.raises(ConfigurationError, match="frame_skip must be a whole number of at least 1"):
        dataset.windows(2, frame_skip=0)
    with pytest.raises(ConfigurationError, match="boundary must be"):
        dataset.windows(2, boundary="over")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (([1], [2], 3), "episode 1 of 2 has 4 rows, 3 were asked for from row 2 on"),
        (([0], [1], 2, 4), "has 5 rows, 2 4 apart were asked for from row 1 on"),
        (([0], [-1], 2), "from row -1 on"),
        (([2], [0], 1), "episode 2 of 2 has 0 rows"),
        (([-1], [0], 1), "episode -1 of 2 has 0 rows"),
        (([0, 1], [0], 1), "as many starts as episodes"),
        (([], [], 1), "at least one"),
        (([0], [0], 0), "length must be a whole number"),
    ],
)
def test_rows_beyond_an_episode_are_refused_and_never_those_of_the_next(place, message) -> None:
    dataset = recorded([5, 4])
    assert dataset.batch([0, 1], [1, 0], 2, frame_skip=3).obs["state"].tolist() == [[[0, 1], [0, 4]], [[1, 0], [1, 3]]]
    with pytest.raises(ConfigurationError, match=message):
        dataset.batch(*place[:3], frame_skip=place[3] if len(place) > 3 else 1)


def test_a_name_that_is_none_of_the_data_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="there is no column 'obs/stat', only obs/state.*obs/state"):
        recorded([4]).column("obs/stat", 0)
    with pytest.raises(
        ConfigurationError, match=r"obs is 'state', expected a collection of names, such as \['state'\]"
    ):
        recorded([4]).windows(2, obs="state")


def test_a_resumed_draw_goes_on_exactly_and_only_with_the_same_data() -> None:
    windows = recorded([9, 8]).windows(3, seed=4)
    windows.sample(5)
    arrays, meta = windows.state_dict()
    expected = windows.sample(BatchRequest(6, 2))
    again = recorded([9, 8]).windows(3)
    again.load_state_dict(arrays, meta)
    assert torch.equal(again.sample(BatchRequest(6, 2)).actions, expected.actions)
    with pytest.raises(ConfigurationError, match="saved windows are over 'here'.*this is 'there'"):
        recorded([9, 7], place="there").windows(3).load_state_dict(arrays, meta)
    with pytest.raises(ConfigurationError, match="frame_skip 1, these 2"):
        recorded([9, 8]).windows(3, frame_skip=2).load_state_dict(arrays, meta)
    with pytest.raises(CheckpointError, match="'rng'"):
        again.load_state_dict(arrays, meta | {"rng": {}})


def test_which_episodes_are_taken_changes_the_fingerprint() -> None:
    dataset = recorded([5, 5, 5])
    parts = [dataset, dataset.select([0, 1]), dataset.select([1, 2]), recorded([5, 5, 5], rewards=False)]
    assert len({part.fingerprint for part in parts}) == 4
    assert dataset.fingerprint == recorded([5, 5, 5]).fingerprint


def test_a_copy_in_another_process_draws_a_stream_of_its_own() -> None:
    windows = recorded([500]).windows(3)
    loader = torch.utils.data.DataLoader(_Drawn(windows), batch_size=None, num_workers=2)
    first, second = (batch.tolist() for batch in loader)
    assert first != second != windows.sample(8).extras["wf.data.index"][:, 0].tolist()
    assert pickle.loads(pickle.dumps(windows)).sample(8).batch_size == 8


class _Drawn(torch.utils.data.Dataset):
    def __init__(self, windows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int):
        return self.windows.sample(8).extras["wf.data.index"][:, 0]


def test_datasets_are_mixed_by_weight() -> None:
    mixed = mix([(recorded([40]), 1), (recorded([50, 30], place="there"), 3)])
    batch = mixed.windows(4, seed=1).sample(400)
    assert batch.obs["state"].shape == (400, 4, 2)
    share = batch.extras["wf.data.dataset"].float().mean()
    assert 0.68 < share < 0.82
    assert len(mixed) == 120 and mixed.fingerprint != mix([(recorded([40]), 1)]).fingerprint


def test_a_mixture_goes_on_exactly() -> None:
    def windows(seed):
        return mix([(recorded([40]), 1), (recorded([50], place="there"), 2)]).windows(4, seed=seed)

    first, second = windows(0), windows(5)
    first.sample(7)
    second.load_state_dict(*first.state_dict())
    assert torch.equal(first.sample(9).obs["state"], second.sample(9).obs["state"])


@pytest.mark.parametrize("spec", [ModalitySpec("vector", (2,), "int64"), None])
def test_batches_of_a_mixture_have_only_what_is_alike_in_every_dataset(spec) -> None:
    other = recorded([9], place="there").recording
    task = other.columns["info/task"]
    other.columns["info/task"] = np.stack([task, task], 1)
    other.info_spec = {} if spec is None else {"task": spec}
    mixed = mix([(recorded([9]), 1), (Dataset(other), 1)])
    assert not mixed.info_spec
    windows = mixed.windows(3)
    for size in (1, 1, 1, 1, 16):
        assert sorted(windows.sample(size).extras) == ["wf.data.dataset", "wf.data.index"]
    same = mix([(recorded([9]), 1), (recorded([4], place="there"), 1)])
    assert "wf.data.task" in same.windows(3).sample(8).extras


def test_a_mixture_of_other_rows_names_both_sides() -> None:
    with pytest.raises(ConfigurationError, match="has_rewards of here is True, of there False"):
        mix([(recorded([4]), 1), (recorded([4], place="there", rewards=False), 1)])
    with pytest.raises(ConfigurationError, match="weight of here is 0"):
        mix([(recorded([4]), 0)])


def test_a_split_of_a_mixture_splits_each_dataset() -> None:
    train, held = mix([(recorded([4] * 10), 1), (recorded([4] * 20, place="there"), 1)]).split(0.1)
    assert [len(one.episodes) for one in held.datasets] == [1, 2]
    assert [len(one.episodes) for one in train.datasets] == [9, 18]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("episodes", [2, 3, 5])
def test_each_side_of_a_split_of_few_episodes_has_one_at_least(episodes, share) -> None:
    sides = recorded([4] * episodes).split(share)
    assert min(len(side.episodes) for side in sides) >= 1
    assert sum(len(side.episodes) for side in sides) == episodes


def test_a_single_episode_is_not_split_which_is_said_plainly() -> None:
    with pytest.raises(ConfigurationError, match="here has a single episode, and both sides of a split need one"):
        recorded([4]).split(0.5)
    with pytest.raises(ConfigurationError, match="here has no episode"):
        recorded([4]).select([]).split(0.5)
