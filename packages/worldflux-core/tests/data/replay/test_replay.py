"""The replay: what it stores, what it gives, and with what chances."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError, ConfigurationError, ShapeMismatchError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay
from worldflux.envs import Step


def starts(batch):
    return [int(x) for x in batch.obs["obs"][:, 0, 0]]


def test_a_batch_holds_the_rows_as_they_were_added(make_replay, fill):
    replay = make_replay()
    fill(replay, 12)
    batch = replay.sample(BatchRequest(8, 4))
    batch.validate()
    number = batch.obs["obs"]
    assert number.shape == (8, 4, 1) and torch.equal(number[:, 1:], number[:, :-1] + 1)
    assert torch.equal(batch.actions, -number)
    assert torch.equal(batch.rewards, torch.where(batch.is_first, 0, number[..., 0]))
    assert torch.equal(batch.context["h"], number.expand(8, 4, 2))
    row = (number[..., 0] % 1000).long()
    length = torch.where(number[..., 0] >= 1000, 7, 5)
    assert torch.equal(batch.is_first, row % length == 0) and torch.equal(batch.is_last, (row + 1) % length == 0)
    assert torch.equal(batch.terminations, batch.is_last)
    dtypes = [t.dtype for t in (batch.rewards, batch.actions, batch.is_first, batch.extras["wf.replay.index"])]
    assert dtypes == [torch.float32, torch.float32, torch.bool, torch.int64]
    assert all(t.is_contiguous() for _, t in batch.tensors())


def test_large_rows_come_out_as_small_ones_do_around_the_end_of_the_ring():
    shape = (3, 20, 20)
    replay = Replay(
        24,
        obs_spec={"image": ModalitySpec(ModalityKind.IMAGE, shape, "uint8"), "n": ModalitySpec("vector", (1,))},
        action_spec=ActionSpec("continuous", 1),
        num_streams=2,
    )
    for row in range(31):
        number = np.array([[row], [row + 100]], np.float32)
        image = np.broadcast_to(number.astype(np.uint8)[:, :, None, None], (2, *shape))
        flag = np.zeros(2, bool)
        replay.add(Step({"image": image, "n": number}, np.zeros(2, np.float32), flag | (row == 0), flag, flag), number)
    batch = replay.sample(BatchRequest(64, 9))
    assert torch.equal(batch.obs["image"][..., 0, 0, 0].float(), batch.obs["n"][..., 0])
    assert torch.equal(batch.obs["n"][:, 1:], batch.obs["n"][:, :-1] + 1)
    assert len(set(starts_of(batch))) > 4


def starts_of(batch):
    return batch.obs["n"][:, 0, 0].tolist()


def test_the_ring_forgets_the_oldest_rows_and_nothing_else(make_replay, fill):
    replay = make_replay(20)
    fill(replay, 33)
    assert len(replay) == 20 and replay.capacity == 20
    seen = Counter(starts(replay.sample(BatchRequest(2000, 1))))
    assert set(seen) == {s + row for s in (0, 1000) for row in range(23, 33)}


@pytest.mark.parametrize("boundary", ["cross", "within"])
@pytest.mark.parametrize("rows", [9, 20, 47])
def test_every_valid_start_is_equally_likely(make_replay, fill, boundary, rows):
    replay, length = make_replay(40, boundary=boundary), 4
    fill(replay, 3)
    replay.num_valid_starts(length)  # from here on the index is kept row by row
    fill(replay, rows - 3, start=3)
    oldest = max(0, rows - 20)
    valid = [
        s * 1000 + row
        for s, episode in ((0, 5), (1, 7))
        for row in range(oldest, rows - length + 1)
        if boundary == "cross" or row % episode + length <= episode
    ]
    assert replay.num_valid_starts(length) == len(valid)
    draws = 400 * len(valid)
    seen = Counter(starts(replay.sample(BatchRequest(draws, length))))
    assert set(seen) == set(valid)
    chi2 = sum((seen[v] - 400) ** 2 / 400 for v in valid)
    assert chi2 < len(valid) + 5 * np.sqrt(2 * len(valid))


@pytest.mark.parametrize("boundary", ["cross", "within"])
def test_the_index_kept_row_by_row_equals_the_one_built_at_once(make_replay, fill, boundary):
    early, late = (make_replay(40, boundary=boundary, seed=7) for _ in range(2))
    early.num_valid_starts(3)
    for replay in (early, late):
        fill(replay, 61)
    assert torch.equal(
        early.sample(BatchRequest(50, 3)).extras["wf.replay.index"],
        late.sample(BatchRequest(50, 3)).extras["wf.replay.index"],
    )


def test_sequences_within_episodes_never_hold_two(make_replay, fill):
    replay = make_replay(boundary="within")
    fill(replay, 47)
    assert not replay.sample(BatchRequest(500, 5)).is_first[:, 1:].any()
    crossing = make_replay(boundary="cross")
    fill(crossing, 47)
    assert crossing.sample(BatchRequest(500, 5)).is_first[:, 1:].any()


def test_latents_are_written_back_to_the_last_rows_of_the_batch(make_replay, fill):
    replay = make_replay()
    fill(replay, 15)
    batch = replay.sample(BatchRequest(6, 5))
    new = -torch.arange(6 * 3 * 2, dtype=torch.float32).reshape(6, 3, 2) - 1
    assert replay.update(batch, {"h": new}) == 18
    stored = {int(i): h.tolist() for i, h in zip(batch.extras["wf.replay.index"][:, 2:].flatten(), new.flatten(0, 1))}
    again = replay.sample(BatchRequest(200, 3))
    for handle, number, latent in zip(
        again.extras["wf.replay.index"].flatten().tolist(),
        again.obs["obs"].flatten().tolist(),
        again.context["h"].flatten(0, 1).tolist(),
    ):
        assert latent == stored.get(handle, [number, number])


def test_a_row_overwritten_since_it_was_sampled_is_not_updated(make_replay, fill):
    replay = make_replay(20)
    fill(replay, 10)
    batch = replay.sample(BatchRequest(1, 10))
    fill(replay, 4, start=10)
    assert replay.update(batch, {"h": torch.full((1, 10, 2), -5.0)}) == 6
    after = replay.sample(BatchRequest(300, 1))
    number, latent = after.obs["obs"].flatten(), after.context["h"][:, 0, 0]
    stream = 1000 if batch.obs["obs"][0, 0, 0] >= 1000 else 0
    updated = (number >= stream + 4) & (number < stream + 10)
    assert torch.equal(latent, torch.where(updated, -5.0, number))


def test_updates_that_do_not_fit_are_refused(make_replay, fill):
    replay = make_replay()
    fill(replay, 10)
    batch = replay.sample(BatchRequest(2, 3))
    with pytest.raises(ShapeMismatchError, match="'h'"):
        replay.update(batch, {"h": torch.zeros(2, 4, 2)})
    with pytest.raises(BufferError, match="unknown latent 'hh'.*Did you mean 'h'"):
        replay.update(batch, {"hh": torch.zeros(2, 3, 2)})
    batch.extras.clear()
    with pytest.raises(BufferError, match="only batches sampled from a replay"):
        replay.update(batch, {"h": torch.zeros(2, 3, 2)})


def test_the_online_queue_gives_each_fresh_block_once_before_drawing(make_replay, fill):
    replay = make_replay(200, online=True, sequence_length=4)
    fill(replay, 10)
    batch = replay.sample(BatchRequest(3, 4))
    assert starts(batch) == [0, 1000, 4]
    fill(replay, 3, start=10)
    assert starts(replay.sample(BatchRequest(4, 4)))[:3] == [1004, 8, 1008]
    later = starts(replay.sample(BatchRequest(300, 4)))
    assert len(set(later)) == replay.num_valid_starts(4)


def test_the_online_queue_of_sequences_within_episodes_starts_anew_with_them(make_replay, fill):
    replay = make_replay(200, num_streams=1, online=True, sequence_length=2, boundary="within")
    fill(replay, 10)  # episodes of five rows: two blocks of two, one row left over
    assert starts(replay.sample(BatchRequest(4, 2))) == [0, 2, 5, 7]


def test_the_online_queue_drops_what_was_overwritten(make_replay, fill):
    replay = make_replay(18, num_streams=1, online=True, sequence_length=4)
    fill(replay, 30)
    assert starts(replay.sample(BatchRequest(4, 4))) == [12, 16, 20, 24]


def test_another_length_leaves_the_online_queue_alone(make_replay, fill):
    replay = make_replay(200, online=True, sequence_length=4)
    fill(replay, 8)
    replay.sample(BatchRequest(5, 2))
    assert starts(replay.sample(BatchRequest(4))) == [0, 1000, 4, 1004]


def test_an_episode_that_was_left_ends_at_its_last_row(make_replay, fill):
    replay = make_replay(num_streams=1)
    fill(replay, 3)
    fill(replay, 3)  # begins with is_first though the third row was not is_last
    batch = replay.sample(BatchRequest(1, 6))
    assert batch.is_last[0].tolist() == [False, False, True, False, False, False]
    assert not batch.is_terminal.any()
    replay.end_episodes()
    assert replay.sample(BatchRequest(1, 6)).is_last[0].tolist() == [False, False, True, False, False, True]


def good_row(streams=2, **changes):
    row = {
        "obs": {"obs": np.zeros((streams, 1), np.float32)},
        "reward": np.zeros(streams, np.float32),
        "is_first": np.ones(streams, bool),
        "is_last": np.zeros(streams, bool),
        "is_terminal": np.zeros(streams, bool),
    }
    return Step(**{**row, **changes})


BAD_ROWS = {
    "'reward' of environment 1 is nan at row 3": {"reward": np.array([0, np.nan], np.float32)},
    "'obs/obs' of environment 0 is inf at row 3": {"obs": {"obs": np.array([[np.inf], [0]], np.float32)}},
    "'reward' of environment 0 is -?inf": {"reward": np.array([-1e300, 0])},
    "wrong shape .*got .2, 3": {"obs": {"obs": np.zeros((2, 3), np.float32)}},
    "dtype complex64": {"obs": {"obs": np.zeros((2, 1), np.complex64)}},
    "missing observation 'obs'": {"obs": {}},
    "unknown observation 'obz'.*Did you mean 'obs'": {"obs": {"obs": np.zeros((2, 1)), "obz": np.zeros((2, 1))}},
    "is_terminal but not is_last": {"is_terminal": np.ones(2, bool)},
    "'is_first' at row 3 has dtype float32": {"is_first": np.ones(2, np.float32)},
}


@pytest.mark.parametrize("message", BAD_ROWS)
def test_a_bad_row_is_refused_by_name_and_nothing_of_it_is_stored(make_replay, fill, message):
    replay = make_replay(latent_spec=None)
    fill(replay, 3)
    before = {name: array.copy() for name, array in replay.state_dict()[0].items()}
    with pytest.raises(ValueError, match=message):
        replay.add(good_row(**BAD_ROWS[message]), np.zeros((2, 1), np.float32))
    after, _ = replay.state_dict()
    assert len(replay) == 6 and all(np.array_equal(before[name], after[name]) for name in before)


def test_actions_and_latents_are_checked_like_observations(make_replay):
    replay = make_replay()
    action, latents = np.zeros((2, 1), np.float32), {"h": np.zeros((2, 2), np.float32)}
    with pytest.raises(BufferError, match="'action' of environment 1 is nan"):
        replay.add(good_row(), np.array([[0], [np.nan]]), latents)
    with pytest.raises(BufferError, match="missing latent 'h'"):
        replay.add(good_row(), action)
    with pytest.raises(ShapeMismatchError, match="latent/h"):
        replay.add(good_row(), action, {"h": np.zeros((2, 3), np.float32)})


def test_images_with_channels_last_are_named():
    image = {"obs": ModalitySpec(ModalityKind.IMAGE, (3, 4, 5), "uint8")}
    replay = Replay(9, obs_spec=image, action_spec=ActionSpec("continuous", 1))
    with pytest.raises(ShapeMismatchError, match="channels first"):
        replay.add(good_row(1, obs={"obs": np.zeros((1, 4, 5, 3), np.uint8)}), np.zeros((1, 1)))
    with pytest.raises(BufferError, match="dtype float64, expected uint8"):
        replay.add(good_row(1, obs={"obs": np.zeros((1, 3, 4, 5))}), np.zeros((1, 1)))


def test_an_episode_begins_with_is_first(make_replay, fill):
    later = good_row(is_first=np.zeros(2, bool))
    action, latents = np.zeros((2, 1), np.float32), {"h": np.zeros((2, 2), np.float32)}
    with pytest.raises(BufferError, match="row 0 of environment 0 must be is_first"):
        make_replay().add(later, action, latents)
    replay = make_replay()
    fill(replay, 5)
    with pytest.raises(BufferError, match="row 5 of environment 0 must be is_first: the row before it was is_last"):
        replay.add(later, action, latents)


def test_too_few_rows_for_a_sequence_are_named(make_replay, fill):
    replay = make_replay()
    with pytest.raises(BufferError, match="holds 0 rows"):
        replay.sample(BatchRequest(1, 4))
    fill(replay, 3)
    with pytest.raises(BufferError, match="sequences of 4 rows were asked for, but the replay holds 6 rows, 3 in each"):
        replay.sample(BatchRequest(1, 4))
    with pytest.raises(BufferError, match="keeps 20 rows; a capacity of at least 42"):
        replay.sample(BatchRequest(1, 21))
    with pytest.raises(ConfigurationError, match="no sequence length"):
        replay.sample(BatchRequest(1))
    within = make_replay(boundary="within")
    fill(within, 20)
    with pytest.raises(BufferError, match="no episode has 8 rows"):
        within.sample(BatchRequest(1, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boundary": "both"}, "boundary must be 'cross' or 'within', got 'both'"),
        ({"online": True}, "online=True needs sequence_length"),
        ({"sequence_length": 30}, "sequence_length 30 does not fit.*at least 60"),
        ({"capacity": 1}, "capacity 1 must be at least num_streams 2"),
        ({"latent_spec": {"h": ((2,), "bfloat17")}}, "'h' has dtype 'bfloat17'"),
    ],
)
def test_options_that_cannot_work_are_refused(make_replay, options, message):
    with pytest.raises(ConfigurationError, match=message):
        make_replay(**options)


def test_the_memory_is_said_before_it_is_taken(make_replay, caplog):
    with caplog.at_level(logging.INFO):
        replay = make_replay(1000)
    spec = {"obs_spec": replay.obs_spec, "action_spec": replay.action_spec, "latent_spec": {"h": ((2,), "float32")}}
    assert replay.nbytes == Replay.estimate_bytes(1000, num_streams=2, **spec) == 1000 * 24
    assert "1,000 rows of 24 bytes" in caplog.text
    big = {"image": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}
    size = Replay.estimate_bytes(5_000_000, obs_spec=big, action_spec=replay.action_spec)
    assert size == pytest.approx(5e6 * 3 * 64 * 64, rel=0.01)


def test_sampling_follows_its_own_seed_and_touches_no_other(make_replay, fill):
    def draw(seed):
        replay = make_replay(seed=seed)
        fill(replay, 20)
        return starts(replay.sample(BatchRequest(20, 3)))

    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


def test_what_is_drawn_apart_leaves_the_draws_of_the_replay_as_they_are(make_replay, fill):
    def batches(*, apart):
        replay = make_replay(capacity=80, online=True, sequence_length=4)
        fill(replay, 30)
        if apart:
            own = replay.apart(seed=3)
            drawn = [own.sample(BatchRequest(16, 4)).rewards for _ in range(2)]
            assert not torch.equal(*drawn)
        return [replay.sample(BatchRequest(8, 4)).rewards for _ in range(3)]

    for one, other in zip(batches(apart=True), batches(apart=False), strict=True):
        assert torch.equal(one, other)


def test_boolean_observations_are_stored_and_given_as_such(tmp_path):
    specs = {"lamps": ModalitySpec("vector", (3,), "bool"), "map": ModalitySpec("other", (40, 40), "bool")}
    replay, again = (Replay(9, obs_spec=specs, action_spec=ActionSpec("continuous", 1)) for _ in range(2))
    rng = np.random.default_rng(0)
    shown = [{name: rng.random((1, *spec.shape)) < 0.5 for name, spec in specs.items()} for _ in range(8)]
    for row, obs in enumerate(shown):
        flag = np.zeros(1, bool)
        replay.add(Step(obs, np.zeros(1, np.float32), flag | (row == 0), flag, flag), np.zeros((1, 1), np.float32))
    replay.save(tmp_path)
    again.load(tmp_path)
    for one in (replay, again):
        batch = one.sample(BatchRequest(1, 8))
        for name in specs:
            assert batch.obs[name].dtype == torch.bool
            assert np.array_equal(batch.obs[name][0], np.concatenate([obs[name] for obs in shown]))
    assert replay.nbytes < 9 * (3 + 40 * 40 + 40)


@pytest.mark.parametrize(
    ("request_", "hint"), [(4, r"BatchRequest\(4, seq_len\)"), (None, "BatchRequest"), ("4", "'4'")]
)
def test_a_request_that_is_none_is_answered_with_the_next_step(make_replay, fill, request_, hint):
    replay = make_replay()
    fill(replay, 9)
    with pytest.raises(ConfigurationError, match=hint):
        replay.sample(request_)
