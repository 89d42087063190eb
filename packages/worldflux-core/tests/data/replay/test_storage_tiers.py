"""The same rows wherever they are kept: in memory, in mapped files, on a device."""

from __future__ import annotations

import copy
import errno
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from worldflux.core.errors import ConfigurationError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import BatchRequest, Replay, memory
from worldflux.data.replay import mapped, storing
from worldflux.envs import Step

STORAGES = ["ram", "mmap", "cuda"]


@pytest.fixture
def kept(make_replay, monkeypatch, tmp_path):
    """A factory of replays in a storage; the tensors of "cuda" are the CPU's, by the same code."""
    monkeypatch.setattr(storing, "device_of", lambda storage: torch.device("cpu"))
    return lambda storage, **options: make_replay(storage=storage, directory=tmp_path, **options)


def equal(one, two) -> bool:
    left, right = dict(one.tensors()), dict(two.tensors())
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("boundary", ["cross", "within"])
@pytest.mark.parametrize("storage", ["mmap", "cuda"])
def test_batches_and_written_back_latents_are_those_of_memory(kept, fill, storage, boundary):
    options = {"boundary": boundary, "online": True, "sequence_length": 4}
    replay, other = kept("ram", **options), kept(storage, **options)
    for start in range(0, 60, 10):
        fill(replay, 10, start=start)
        fill(other, 10, start=start)
        one, two = replay.sample(BatchRequest(7, 4)), other.sample(BatchRequest(7, 4))
        assert equal(one, two)
        latents = {"h": torch.rand(7, 3, 2)}
        assert replay.update(one, latents) == other.update(two, latents)
        assert replay.longest_episode() == other.longest_episode()


@pytest.mark.parametrize("after", STORAGES)
@pytest.mark.parametrize("before", STORAGES)
def test_a_saved_replay_goes_on_in_any_storage(kept, fill, tmp_path, before, after):
    replay, other = kept(before), kept(after, seed=9)
    fill(replay, 33)
    replay.save(tmp_path / "saved")
    other.load(tmp_path / "saved")
    fill(replay, 5, start=33)
    fill(other, 5, start=33)
    assert equal(replay.sample(BatchRequest(7, 3)), other.sample(BatchRequest(7, 3)))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda replay: pickle.loads(pickle.dumps(replay))])
def test_a_copy_is_a_replay_of_its_own(kept, fill, storage, how):
    replay = kept(storage)
    fill(replay, 9)
    other = how(replay)
    fill(other, 6, start=9)
    assert (len(replay), len(other)) == (18, 30)
    assert other.sample(BatchRequest(50, 3)).obs["obs"].max() == 1014
    assert replay.sample(BatchRequest(50, 3)).obs["obs"].max() == 1008


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int8", "float16", "bool"])
def test_numbers_of_any_kind_come_back(kept, make_replay, dtype):
    latents = {"n": ((2,), dtype)}
    replay, other = (kept(storage, latent_spec=latents) for storage in ("ram", "cuda"))
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2 if dtype == "bool" else 100, (6, 2, 2)).astype(dtype)
    first = np.ones(2, bool)
    for value in values:
        step = Step({"obs": np.ones((2, 1), np.float32)}, np.zeros(2, np.float32), first, first, first)
        for one in (replay, other):
            one.add(step, np.zeros((2, 1), np.float32), {"n": value})
    batches = [one.sample(BatchRequest(9, 2)) for one in (replay, other)]
    assert equal(*batches) and batches[1].context["n"].dtype == getattr(torch, dtype)
    new = torch.ones((9, 1, 2), dtype=torch.int64)
    assert replay.update(batches[0], {"n": new}) == other.update(batches[1], {"n": new})
    assert all(np.array_equal(a, other.state_dict()[0][name]) for name, a in replay.state_dict()[0].items())


def test_of_several_values_for_one_row_the_last_is_kept(kept, fill):
    for storage in STORAGES:
        replay = kept(storage)
        fill(replay, 4)
        batch = replay.sample(BatchRequest(50, 1))
        values = torch.arange(50.0)[:, None, None].expand(50, 1, 2)
        replay.update(batch, {"h": values})
        handles = batch.extras["wf.replay.index"][:, 0]
        for handle in handles.unique().tolist():
            row, stream = divmod(handle, 2)
            newest = (handles == handle).nonzero().max()
            assert replay.state_dict()[0]["latent/h"][stream, row, 0] == newest


def test_mapped_files_have_no_name_and_end_with_their_replay(kept, fill, tmp_path):
    fill(kept("mmap"), 9)
    assert list(tmp_path.iterdir()) == []


def test_what_is_mapped_is_let_go_of_and_stays(kept, fill, monkeypatch):
    monkeypatch.setattr(mapped, "RESIDENT", 1)  # with every touch
    replay, other = kept("mmap"), kept("ram")
    fill(replay, 33)
    fill(other, 33)
    assert equal(replay.sample(BatchRequest(30, 3)), other.sample(BatchRequest(30, 3)))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read as Linux tells it")
def test_little_of_a_mapped_replay_is_resident(monkeypatch, tmp_path):
    monkeypatch.setattr(mapped, "RESIDENT", 8 << 20)
    spec = {"obs": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}
    action = ActionSpec("continuous", 1)
    replay = Replay(8_000, obs_spec=spec, action_spec=action, storage="mmap", directory=tmp_path)  # 98 MB
    before = _resident()
    rows = {name: np.zeros((1, 8_000, *field.shape), field.dtype) for name, field in replay._tier.stored.items()}
    for first in range(0, 8_000, 100):
        replay._tier.fill({name: column[:, :100] for name, column in rows.items()}, first=first)
    assert _resident() - before < 40 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_disk_without_room_is_named_before_anything_is_collected(kept, monkeypatch, tmp_path):
    def full(file: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapped, "reserve", full)
    with pytest.raises(ConfigurationError, match=rf"storage='mmap' takes .* in {tmp_path}, but only .* free there"):
        kept("mmap")


@pytest.mark.parametrize(("room", "found"), [(True, "mmap"), (False, "ram")])
def test_where_memory_is_not_enough_the_disk_is_taken_if_it_has_room_and_that_is_said(
    make_replay, monkeypatch, tmp_path, caplog, room, found
):
    monkeypatch.setattr(storing, "memory", lambda: 1000)
    monkeypatch.setattr(storing, "has_room", lambda place, size: room)
    caplog.set_level(logging.INFO)
    replay = make_replay(directory=tmp_path)
    assert (replay._tier._files is not None) is (found == "mmap")
    assert "40 rows of 24 bytes = 960 bytes when full" in caplog.messages[0]
    assert "1 KB of memory" in caplog.text
    assert ("it is kept in files" in caplog.text) is room


def test_memory_that_is_enough_is_taken_without_a_word_of_warning(make_replay, caplog):
    assert make_replay()._tier._files is None
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("storage", ["disk", "cuda:", "", None, 3])
def test_a_storage_that_there_is_not_is_refused(make_replay, storage):
    with pytest.raises(ConfigurationError, match="storage is .*, expected 'ram', 'mmap', 'cuda'"):
        make_replay(storage=storage)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named(make_replay):
    with pytest.raises(ConfigurationError, match="torch finds no CUDA device: use 'ram' or 'mmap'"):
        make_replay(storage="cuda")


def test_a_capacity_may_be_a_size(make_replay):
    row = make_replay(2).nbytes // 2
    replay = make_replay(f"{11 * row + 3}B")
    assert (replay.capacity, replay.nbytes) == (10, 10 * row)  # of two streams
    with pytest.raises(ConfigurationError, match=r"hold no row of \d+ bytes for each of 2 streams"):
        make_replay(f"{row}B")
    with pytest.raises(ConfigurationError, match="capacity is '8 potatoes', expected a size such as '8GB'"):
        make_replay("8 potatoes")


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8e9), ("1.5 GiB", 1.5 * 2**30), ("500mb", 5e8), ("12B", 12), ("2kB", 2000), ("1TB", 1e12)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert memory.parse_bytes(text, name="x") == size


@pytest.mark.parametrize("text", ["", "8", "GB", "-1GB", "0GB", "1e3GB", "8 G B", "9" * 400 + "B", 8, None, "8GB\n9"])
def test_what_is_no_size_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match="replay_bytes is .*, expected a size"):
        memory.parse_bytes(text, name="replay_bytes")


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b\n", {"memory.max": "max", "a/memory.max": "4096", "a/b/memory.max": "8192"}, 4096),
        ("0::/\n", {"memory.max": "5000"}, 5000),
        ("5:cpu,memory:/x\n3:cpuset:/y\n", {"memory/x/memory.limit_in_bytes": "7000"}, 7000),
        ("0::/elsewhere\n", {"memory.max": "6000"}, 6000),
        ("", {}, None),
    ],
)
def test_a_control_groups_limit_is_the_memory_there_is(monkeypatch, tmp_path, groups, files, limit):
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "fs")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory.memory() == (machine if limit is None else limit)
