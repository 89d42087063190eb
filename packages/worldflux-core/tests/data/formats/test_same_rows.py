"""The same episodes, whatever format they were kept in, are the same rows: aligned in time, to the last number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from worldflux.data import open_dataset


def episodes(seed: int) -> list[dict[str, np.ndarray]]:
    """Episodes in the arrival convention of lengths, sizes and ends at random."""
    rng = np.random.default_rng(seed)
    size, width = int(rng.integers(1, 6)), int(rng.integers(2, 4))
    out = []
    for _ in range(int(rng.integers(1, 6))):
        rows = int(rng.integers(2, 30))
        acted = np.eye(width, dtype=np.float32)[rng.integers(0, width, rows)]
        acted = acted if seed % 2 else rng.uniform(-1, 1, (rows, width)).astype(np.float32)
        acted[-1] = 0
        paid = rng.normal(size=rows).astype(np.float32)
        paid[0] = 0
        seen = rng.normal(size=(rows, size)).astype(np.float32)
        out.append({"state": seen, "action": acted, "reward": paid, "end": np.bool_(rng.random() < 0.5)})
    return out


def flags(episode):
    at = np.arange(len(episode["reward"]))
    last = at == len(at) - 1
    return {"is_first": at == 0, "is_last": last, "is_terminal": last & episode["end"]}


def rows_of(episode):
    return {name: episode[name] for name in ("state", "action", "reward")} | flags(episode)


def led(episode):
    """The action that led to each row; nothing led to the first."""
    return np.concatenate([np.zeros_like(episode["action"][:1]), episode["action"][:-1]])


def as_dreamerv3(folder, made, rng):
    stream = {name: np.concatenate([rows_of(one)[name] for one in made]) for name in rows_of(made[0])}
    total = len(stream["reward"])
    edges = [0, *sorted({int(at) for at in rng.integers(1, total, 4)}), total]
    for i, (start, stop) in enumerate(zip(edges, edges[1:])):
        file = folder / f"20260101T000000F{i:06d}-a{i}-a{i + 1}-{stop - start}.npz"
        np.savez(file, **{name: column[start:stop] for name, column in stream.items()})


def as_dreamerv3_torch(folder, made, rng):
    for i, one in enumerate(made):
        held = rows_of(one) | {"action": led(one), "discount": 1 - flags(one)["is_terminal"].astype(np.float32)}
        del held["is_last"], held["is_terminal"]
        np.savez_compressed(folder / f"20260101T{i:06d}-b{i}-{len(one['reward'])}.npz", **held)


def as_tdmpc2(folder, made, rng):
    held = {
        "obs": np.concatenate([one["state"] for one in made]),
        "action": np.concatenate([np.where(flags(one)["is_first"][:, None], np.nan, led(one)) for one in made]),
        "reward": np.concatenate([np.where(flags(one)["is_first"], np.nan, one["reward"]) for one in made]),
        "terminated": np.concatenate([np.float32(flags(one)["is_terminal"]) for one in made]),
        "episode": np.repeat(np.arange(len(made)), [len(one["reward"]) for one in made]),
    }
    torch.save({name: torch.from_numpy(np.asarray(column)) for name, column in held.items()}, folder / "buffer.pt")


def as_arrival_npz(folder, made, rng):
    for i, one in enumerate(made):
        np.savez(folder / f"episode_{i}.npz", **rows_of(one))


def as_gymnasium_npz(folder, made, rng):
    for i, one in enumerate(made):
        ended = flags(one)["is_terminal"][1:]
        held = {"state": one["state"], "actions": one["action"][:-1], "rewards": one["reward"][1:]}
        np.savez(folder / f"{i}.npz", **held, terminations=ended, truncations=flags(one)["is_last"][1:] & ~ended)


def as_parquet(folder, made, rng):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lengths = [len(one["reward"]) for one in made]
    held = {name: [row for one in made for row in rows_of(one)[name]] for name in rows_of(made[0])}
    held["episode_index"] = np.repeat(np.arange(len(made)), lengths)
    held["step_index"] = np.concatenate([np.arange(n) for n in lengths])
    table = pa.table(held).take(rng.permutation(sum(lengths)))
    cut = int(rng.integers(0, len(table)))
    for i, part in enumerate((table.slice(0, cut), table.slice(cut))):
        parquet.write_table(part, folder / f"train-{i}.parquet", row_group_size=7)


FORMATS = (as_dreamerv3, as_dreamerv3_torch, as_tdmpc2, as_arrival_npz, as_gymnasium_npz, as_parquet)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_an_episode_is_the_same_rows_in_every_format(tmp_path, write, seed):
    made = episodes(seed)
    write(tmp_path, made, np.random.default_rng(seed))
    data = open_dataset(tmp_path)
    assert data.action_spec.discrete == (seed % 2 == 1 and write is not as_tdmpc2)
    assert len(data.episodes) == len(made)
    (name,) = data.obs_spec
    for i, one in enumerate(made):
        got = data.episode(i)
        assert (got[f"obs/{name}"] == one["state"]).all() and (got["reward"] == one["reward"]).all()
        assert (got["action"][:-1] == one["action"][:-1]).all()
        assert all((got[flag] == values).all() for flag, values in flags(one).items())


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_the_same_bounds_scale_the_actions_of_every_format(tmp_path, write):
    made = episodes(0)
    write(tmp_path, made, np.random.default_rng(0))
    half = open_dataset(tmp_path, action_low=-2, action_high=2)
    assert any("scaled to [-1, 1] from the bounds -2 to 2" in one for one in half.remarks)
    assert half.action_bounds.high == (2.0,) * half.action_spec.dim
    whole = open_dataset(tmp_path, action_scale="minmax")
    most = []
    for i, one in enumerate(made):
        np.testing.assert_allclose(half.episode(i)["action"][:-1], one["action"][:-1] / 2, atol=1e-6)
        assert not half.episode(i)["action"][-1].any() and not whole.episode(i)["action"][-1].any()
        most.append(whole.episode(i)["action"][:-1])
    least, most = np.concatenate(most).min(0), np.concatenate(most).max(0)
    np.testing.assert_allclose([least, most], [[-1] * len(least), [1] * len(most)], atol=1e-6)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_actions_outside_the_unit_box_are_remarked_alike_in_every_format(tmp_path, write):
    made = [one | {"action": 3 * one["action"]} for one in episodes(0)]
    write(tmp_path, made, np.random.default_rng(0))
    said = next(one for one in open_dataset(tmp_path).remarks if "outside [-1, 1]" in one)
    assert "the data says no bounds; action_low= and action_high=, or action_scale='minmax', scale them" in said
