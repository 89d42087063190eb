"""Single frames in the replay, stacks in a batch: the numbers are those of a replay that stored the stacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldflux.core.errors import BufferError, CheckpointError, ConfigurationError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay
from worldflux.data.replay import storing
from worldflux.envs import Step
from worldflux.envs.stack import stacked

FRAMES, STREAMS = 3, 2
SHAPES = {"small": (2, 2, 3), "large": (3, 20, 20)}  # of one frame: fewer bytes than fit a record, and more


def replay_of(frame: tuple[int, ...], capacity: int = 22, *, stacks: bool = True, **options) -> Replay:
    channels, *size = frame
    spec = ModalitySpec(ModalityKind.IMAGE, (FRAMES * channels, *size), "uint8")
    return Replay(
        capacity,
        obs_spec={"pov": spec, "state": ModalitySpec(ModalityKind.VECTOR, (2,))},
        action_spec=ActionSpec("continuous", 1),
        num_streams=STREAMS,
        frame_stacks={"pov": FRAMES} if stacks else None,
        **options,
    )


class Film:
    """Rows of random frames in episodes of random lengths, some of one row, as two environments would give them."""

    def __init__(self, frame: tuple[int, ...], seed: int = 0) -> None:
        self.frame, self.rng = frame, np.random.default_rng(seed)
        self.left, self.shown = np.zeros(STREAMS, int), None

    def add_to(self, *replays: Replay, rows: int) -> None:
        for _ in range(rows):
            first = self.left == 0
            self.left = np.where(first, self.rng.integers(1, 7, STREAMS), self.left) - 1
            newest = self.rng.integers(0, 256, (STREAMS, *self.frame), np.uint8)
            self.shown = stacked(self.shown, newest, first, frames=FRAMES)
            obs = {"pov": self.shown, "state": self.rng.random((STREAMS, 2), np.float32)}
            last = self.left == 0
            step = Step(obs, self.rng.random(STREAMS, np.float32), first, last, last & (newest[:, 0, 0, 0] > 99))
            action = self.rng.random((STREAMS, 1), np.float32)
            for replay in replays:
                replay.add(step, action)


def same(one, two, request: BatchRequest) -> bool:
    left, right = (dict(replay.sample(request).tensors()) for replay in (one, two))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("boundary", ["cross", "within"])
@pytest.mark.parametrize("frame", SHAPES)
@pytest.mark.parametrize("storage", ["ram", "mmap", "tensors"])
def test_batches_are_those_of_a_replay_of_whole_stacks(frame, boundary, storage, tmp_path, monkeypatch):
    monkeypatch.setattr(storing, "device_of", lambda storage: torch.device("cpu"))
    kept = {"storage": "cuda" if storage == "tensors" else storage, "directory": tmp_path}
    single = replay_of(SHAPES[frame], boundary=boundary, **kept)
    whole = replay_of(SHAPES[frame], stacks=False, boundary=boundary)
    film = Film(SHAPES[frame])
    for _ in range(40):  # the ring of 11 rows a stream turns several times
        film.add_to(single, whole, rows=1)
        for length in (1, 2, 3):
            assert single.num_valid_starts(length) == whole.num_valid_starts(length)
            if single.num_valid_starts(length):
                assert same(single, whole, BatchRequest(9, length))


def test_a_frame_is_kept_once():
    frame = SHAPES["large"]
    single, whole = replay_of(frame, 10_000).nbytes, replay_of(frame, 10_000, stacks=False).nbytes
    assert single < whole / FRAMES * 1.05
    options = {"action_spec": ActionSpec("continuous", 1), "num_streams": STREAMS, "frame_stacks": {"pov": FRAMES}}
    assert Replay.estimate_bytes(10_000, obs_spec=replay_of(frame).obs_spec, **options) == single


@pytest.mark.parametrize("rows", [0, 4, 11, 12, 29])
def test_a_saved_replay_goes_on_with_its_stacks(rows, tmp_path):
    frame = SHAPES["small"]
    replay, other, film = replay_of(frame), replay_of(frame, seed=9), Film(frame)
    Film(frame, seed=5).add_to(other, rows=17)  # which are replaced
    film.add_to(replay, rows=rows)
    replay.save(tmp_path)
    other.load(tmp_path)
    for _ in range(15):
        film.add_to(replay, other, rows=1)
        assert same(replay, other, BatchRequest(9, 1))


@pytest.mark.parametrize("rows", [0, 4, 29])
def test_what_was_saved_as_whole_stacks_goes_on_in_a_replay_of_frames(rows):
    frame = SHAPES["small"]
    earlier, now, film = replay_of(frame, stacks=False), replay_of(frame), Film(frame)
    film.add_to(earlier, rows=rows)
    now.load_state_dict(*earlier.state_dict())
    for _ in range(15):
        film.add_to(earlier, now, rows=1)
        assert same(earlier, now, BatchRequest(9, 1))


def test_saved_frames_of_other_stacks_are_refused():
    replay = replay_of(SHAPES["small"])
    Film(SHAPES["small"]).add_to(replay, rows=3)
    arrays, meta = replay.state_dict()
    with pytest.raises(CheckpointError, match=r"frame_stacks \{'pov': 3\}, this one \{\}"):
        replay_of(SHAPES["small"], stacks=False).load_state_dict(arrays, meta)
    with pytest.raises(CheckpointError, match="'head/pov' should be"):
        replay.load_state_dict({name: array for name, array in arrays.items() if name != "head/pov"}, meta)


def test_what_is_no_stack_of_the_rows_before_is_refused_and_nothing_is_stored():
    replay, film = replay_of(SHAPES["small"]), Film(SHAPES["small"])
    while len(replay) < 2 * STREAMS or not film.left.all():  # both are within an episode then
        film.add_to(replay, rows=1)
    rows = len(replay)
    film.shown[1, -1] += 1  # the newest frame, which was another
    with pytest.raises(BufferError, match=rf"'pov' of environment 1 at row {rows // STREAMS} is no stack"):
        film.add_to(replay, rows=1)
    assert len(replay) == rows


@pytest.mark.parametrize(
    ("stacks", "said"),
    [
        ({"pow": 3}, "frame_stacks names 'pow'.*Did you mean 'pov'"),
        ({"pov": 4}, "'pov' of shape .* is no stack of so many frames"),
        ({"pov": 0}, "must be a whole number of at least 1"),
        (3, "expected numbers of frames by observation"),
    ],
)
def test_stacks_that_cannot_be_are_refused(stacks, said):
    spec = {"pov": ModalitySpec(ModalityKind.IMAGE, (9, 2, 2), "uint8")}
    with pytest.raises(ConfigurationError, match=said):
        Replay(9, obs_spec=spec, action_spec=ActionSpec("continuous", 1), frame_stacks=stacks)
