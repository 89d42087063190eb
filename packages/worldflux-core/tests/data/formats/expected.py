"""Whether a dataset holds the rows that an ``expected.json`` says its files hold.

The sets are a toy: entry 0 of the observation counts the steps, the reward on arriving at k is k, and the frame of step
k is ``20 + 10 k`` on average, its upper half brighter than its lower and its red brighter than its blue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.spec import ModalityKind

FLAGS = ("is_first", "is_last", "is_terminal")


def check_expected(
    dataset: Any,
    expected: Mapping[str, Any] | Path,
    *,
    obs: str | None = None,
    images: Mapping[str, str] | None = None,
    order: Sequence[int] | None = None,
) -> None:
    """Assert that ``dataset`` holds what ``expected`` (a mapping, its file, or the folder of it) says.

    ``obs`` names the observation that counts (default: the only vector of the right size, or one of the usual names);
    ``images`` maps names of ``image_mean`` to the dataset's; ``order[i]`` is the dataset's place of the file's episode
    i. An episode marked as a stand-in must hold one row more than the strict reading: the tail's reward and end.
    """
    want = load(expected)
    episodes = want["episodes"]
    assert len(dataset.episodes) == len(episodes), f"{len(dataset.episodes)} episodes, expected {len(episodes)}"
    assert len(dataset) == int(dataset.episodes.lengths.sum())
    for i, one in enumerate(episodes):
        place = i if order is None else order[i]
        rows = dataset.episode(place)
        stand_in = bool(dataset.episodes.stand_in[place])
        try:
            _check_episode(dataset, rows, one, want["tolerance"], stand_in, obs, images or {})
        except AssertionError as error:
            raise AssertionError(f"episode {i}: {error}") from None


def load(expected: Mapping[str, Any] | Path) -> Mapping[str, Any]:
    """Return what an ``expected.json`` (or the one of a folder) says; its bare NaN and Infinity are numbers."""
    if isinstance(expected, Mapping):
        return expected
    file = expected / "expected.json" if expected.is_dir() else expected
    return json.loads(file.read_text())


def _check_episode(
    dataset: Any,
    rows: Mapping[str, np.ndarray],
    one: Mapping[str, Any],
    tolerance: Mapping[str, float],
    stand_in: bool,
    obs: str | None,
    images: Mapping[str, str],
) -> None:
    count = one["rows"]
    length = count + stand_in
    assert not stand_in or one["tail"] is not None, "a stand-in row where the last observation is in the file"
    for name, values in rows.items():
        assert len(values) == length, f"{name} has {len(values)} rows, expected {length}"
    _check_flags(rows, one, count, stand_in)
    _check_rewards(rows, one, count, stand_in, tolerance.get("reward", 0))
    _check_actions(rows, one)
    if "obs" in one:
        name = obs or _counter(dataset, len(one["obs"][0]))
        seen = rows[f"obs/{name}"][:, : len(one["obs"][0])]
        np.testing.assert_allclose(seen[:count, 0], one["obs0"], rtol=1e-6, atol=tolerance["obs"], err_msg="obs0")
        np.testing.assert_allclose(seen[:count], one["obs"], rtol=1e-6, atol=tolerance["obs"], err_msg=name)
        assert not stand_in or (seen[-1] == seen[-2]).all(), "the stand-in row must repeat the observation before it"
    for key, means in one.get("image_mean", {}).items():
        frames = rows[f"obs/{images.get(key) or _image(dataset, key)}"]
        assert not stand_in or (frames[-1] == frames[-2]).all(), "the stand-in row must repeat the frame before it"
        _check_frames(key, frames[:count], means, tolerance["image_mean"])


def _check_flags(rows: Mapping[str, np.ndarray], one: Mapping[str, Any], count: int, stand_in: bool) -> None:
    for flag in FLAGS:
        assert rows[flag].dtype == bool
    want = {flag: list(one[flag]) for flag in FLAGS}
    if stand_in:
        want["is_last"] = [False] * count + [True]
        want["is_first"] = [*want["is_first"], False]
        want["is_terminal"] = [False] * count + [bool(one["tail"]["terminated"])]
    for flag in FLAGS:
        assert rows[flag].tolist() == want[flag], f"{flag} is {rows[flag].tolist()}, expected {want[flag]}"


def _check_rewards(
    rows: Mapping[str, np.ndarray], one: Mapping[str, Any], count: int, stand_in: bool, tolerance: float
) -> None:
    want = one["reward"]
    if want is None:
        assert "reward" not in rows, "the file holds no rewards"
        return
    if stand_in:
        want = [*want, one["tail"]["reward"]]
    assert rows["reward"].dtype == np.float32
    known = [i for i, value in enumerate(want) if value is not None]
    np.testing.assert_allclose(
        rows["reward"][known], np.float32([want[i] for i in known]), rtol=1e-6, atol=tolerance, err_msg="reward"
    )
    assert np.isfinite(rows["reward"]).all()


def _check_actions(rows: Mapping[str, np.ndarray], one: Mapping[str, Any]) -> None:
    action = rows.get("action")
    if action is None:
        assert all(value is None for value in one["action"]), "no actions were read"
        return
    assert action.dtype == np.float32 and action.ndim == 2 and np.isfinite(action).all()
    for row, value in enumerate(one["action"]):
        if value is None:
            continue
        if isinstance(value, int):  # the index of a class
            assert action[row].tolist() == np.eye(action.shape[1])[value].tolist(), (
                f"action of row {row} is not {value}"
            )
        else:
            value = np.ravel(value)
            np.testing.assert_allclose(
                action[row, : value.size], value, rtol=1e-6, atol=2e-6, err_msg=f"action of row {row}"
            )


def _counter(dataset: Any, size: int) -> str:
    vectors = {name: spec.shape for name, spec in dataset.obs_spec.items() if spec.kind is ModalityKind.VECTOR}
    fitting = [name for name, shape in vectors.items() if shape[0] == size]
    fitting = fitting or [name for name, shape in vectors.items() if shape[0] > size]  # padded
    usual = [name for name in fitting if name.rsplit("/", 1)[-1].rsplit(".", 1)[-1] in ("obs", "state", "observation")]
    found = usual or fitting
    assert found, f"no vector of {size} numbers among {vectors}"
    return found[0]


def _image(dataset: Any, key: str) -> str:
    pictures = [name for name, spec in dataset.obs_spec.items() if spec.kind is ModalityKind.IMAGE]
    if key in pictures or not pictures:
        assert pictures, "no images were read"
        return key
    ending = [name for name in pictures if name.endswith(key) or key.endswith(name)]
    assert ending or len(pictures) == 1, f"which of {pictures} is {key!r}? pass images="
    return (ending or pictures)[0]


def _check_frames(key: str, frames: np.ndarray, means: Sequence[float], tolerance: float) -> None:
    assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[1] in (1, 3, 4), frames.shape
    seen = frames[:, :3].astype(np.float64)
    np.testing.assert_allclose(seen.mean((1, 2, 3)), means, rtol=0, atol=tolerance, err_msg=key)
    if means[0] > means[-1]:  # a camera that shows the negative
        seen = 255 - seen
    middle = frames.shape[2] // 2
    upper, lower = seen[:, :, :middle].mean((1, 2, 3)), seen[:, :, middle:].mean((1, 2, 3))
    assert (upper > lower + 6).all(), f"{key}: the upper half is the brighter one"
    if frames.shape[1] >= 3:
        assert (seen[:, 0].mean((1, 2)) > seen[:, 2].mean((1, 2)) + 8).all(), f"{key}: red is brighter than blue"
