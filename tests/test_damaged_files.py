"""Files with random damage, of every kind that is read: refused in our own words or read as they were, and soon.

``WORLDFLUX_MUTATIONS`` says how many; a few hundred are made where it is not set.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import worldflux
from worldflux import Replay, ReplayBuffer, State
from worldflux.core.errors import WorldFluxError
from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.envs import Step
from worldflux.files import sha256
from worldflux.training import find_checkpoint
from worldflux_dreamer.dreamerv3.official_run import read_checkpoint as read_dreamer
from worldflux_tdmpc.tdmpc2.official import read_checkpoint as read_tdmpc

MUTATIONS = int(os.environ.get("WORLDFLUX_MUTATIONS", "350"))
SLOW = 10.0  # seconds
Numbers = dict[str, Any]


def numbers(tree: Any) -> Numbers:
    return {str(name): np.array(value) for name, value in sorted(dict(tree).items(), key=lambda item: str(item[0]))}


def same(left: Numbers, right: Numbers) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )


# --- one file or folder of each kind, and how it is read ---


def saved_model(place: Path) -> Callable[[], Numbers]:
    model = worldflux.create_world_model("tdmpc2:ci", obs_shape=(3,), action_dim=2)
    model.save_pretrained(place)
    return lambda: numbers(worldflux.WorldModel.from_pretrained(place).state_dict())


def vouching(place: Path) -> None:
    """A stranger who damages files can write their hashes anew."""
    for page, name in ((place / "worldflux_meta.json", "sha256"), (place / "manifest.json", "files")):
        try:
            content = json.loads(page.read_bytes())
            for file in content[name]:
                digest = sha256(place / file)
                content[name][file] = (
                    digest if name == "sha256" else {"bytes": (place / file).stat().st_size, "sha256": digest}
                )
            page.write_text(json.dumps(content))
        except Exception:  # it is damaged itself
            continue


def checkpoint(place: Path) -> Callable[[], Numbers]:
    from worldflux import Batch
    from worldflux.training import Trainer, TrainingConfig

    def batch() -> Batch:
        draw = torch.Generator().manual_seed(0)
        first = torch.zeros(2, 4, dtype=torch.bool)
        first[:, 0] = True
        none = torch.zeros(2, 4, dtype=torch.bool)
        return Batch(
            obs=torch.randn(2, 4, 3, generator=draw), actions=torch.zeros(2, 4, 2), rewards=torch.zeros(2, 4),
            is_first=first, is_last=none, is_terminal=none,
        )  # fmt: skip

    def trainer(run: Path) -> Trainer:
        model = worldflux.create_world_model("mbpo:ci", obs_shape=(3,), action_dim=2)
        return Trainer(model, TrainingConfig(total_steps=1, device="cpu", output_dir=str(run)))

    run = place.parent / "run"
    trainer(run).train([batch()], num_steps=1)
    shutil.copytree(find_checkpoint(run), place)
    again = trainer(place.parent / "again")

    def read() -> Numbers:
        from worldflux.training.snapshot import load_snapshot

        load_snapshot(place, again)
        values = list(again.optimizer.state_dict()["state"].items())
        moments = {f"{i}.{name}": value for i, state in values for name, value in state.items()}
        return numbers(again.model.state_dict()) | numbers(moments) | {"step": np.array(again.step)}

    return read


SPEC = {"obs": ModalitySpec(ModalityKind.VECTOR, (2,))}


def replay(seed: int = 0) -> Replay:
    return Replay(40, obs_spec=SPEC, action_spec=ActionSpec("continuous", 1), num_streams=2, seed=seed)


def saved_replay(place: Path) -> Callable[[], Numbers]:
    full = replay()
    for t in range(12):
        flag = np.array([t == 0, t == 0])
        no = np.zeros(2, bool)
        full.add(Step({"obs": np.full((2, 2), t, np.float32)}, np.ones(2, np.float32), flag, no, no), np.ones((2, 1)))
    full.save(place)

    def read() -> Numbers:
        other = replay(1)
        other.load(place)
        arrays, meta = other.state_dict()
        return numbers(arrays) | {"meta": np.array(json.dumps(meta, sort_keys=True))}

    return read


def saved_buffer(place: Path) -> Callable[[], Numbers]:
    buffer = ReplayBuffer(60, (2,), 1)
    obs = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    buffer.add_episode(obs, np.ones((20, 1), np.float32), np.arange(20, dtype=np.float32))
    buffer.save(place)
    return lambda: numbers(ReplayBuffer.load(place).state_dict()[0])


def state(place: Path) -> Callable[[], Numbers]:
    place.write_bytes(State({"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}).serialize())
    return lambda: numbers(State.deserialize(place.read_bytes()).tensors)


def tdmpc(place: Path) -> Callable[[], Numbers]:
    torch.save({"model": {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)}}, place)
    return lambda: numbers({k: v for k, v in read_tdmpc(place).items() if isinstance(v, torch.Tensor)})


def dreamer(place: Path) -> Callable[[], Numbers]:
    arrays = {"a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "a/bias": np.ones(3, np.float32)}
    place.write_bytes(pickle.dumps({"params": arrays, "counters": {"updates": 3}}))
    return lambda: numbers(read_dreamer(place))


#: Those that end in ``!`` carry no hash of their own, or have it written anew: what is read may be other numbers.
KINDS = {
    "model": saved_model, "model, hashes anew!": saved_model, "checkpoint": checkpoint,
    "checkpoint, hashes anew!": checkpoint, "replay": saved_replay, "buffer.npz": saved_buffer, "state": state,
    "official.pt": tdmpc, "agent.pkl!": dreamer,
}  # fmt: skip


def mutated(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data)) if draw.random() < 0.5 else draw.randrange(min(len(data), 400))
    length = draw.choice([1, 2, 8, 64])
    filling = bytes(draw.randrange(256) for _ in range(length))
    return draw.choice([
        data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :],
        data[:at] + filling + data[at + length :],
        data[:at] + filling + data[at:],
        data[:at] + data[at + length :],
        data[:at],
        data[:at] + data[at:] * 2,
        data.replace(data[at : at + 2], filling[:2]),
        data.replace(b"0", draw.choice([b"-1", b"9" * 50, b"NaN", b"null"]), 1),
    ])  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # of damaged archives' names
def test_damage_is_refused_in_our_own_words_or_changes_no_number(tmp_path, kind, record_property):
    place = tmp_path / "whole"
    read = KINDS[kind](place)
    whole = read()
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    backup = {file: file.read_bytes() for file in files}
    draw, found = random.Random(kind), Counter()
    for _ in range(MUTATIONS // len(KINDS)):
        file = draw.choice(files)
        file.write_bytes(damaged := mutated(backup[file], draw))
        if "anew" in kind:
            vouching(place)
        begun = time.monotonic()
        try:
            again = read()
        except WorldFluxError:
            found["refused"] += 1
        except BaseException as error:
            name = type(error).__name__
            pytest.fail(f"{file.name}: {name}: {error}, of the bytes {damaged[:2000]!r}")
        else:
            found["accepted"] += 1
            assert kind.endswith("!") or same(whole, again), f"{file.name}: other numbers, of {damaged[:2000]!r}"
        assert time.monotonic() - begun < SLOW, f"{file.name}: too slow, of {damaged[:2000]!r}"
        for path, content in backup.items():
            path.write_bytes(content)
    record_property("found", dict(found))
    print(kind, dict(found))
