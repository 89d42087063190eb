"""Damaged sets with videos and tables: refused in our own words, or read as far as the format can tell.

What cannot be told: digits of a CSV, pixels of a GIF, numbers of a Parquet page (none of them has a checksum), and what
a set says of itself in words. ``WORLDFLUX_MUTATIONS=N`` asks for N damaged copies of each set instead of a few.
"""

from __future__ import annotations

import os

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset

pytest.importorskip("pyarrow")
pytest.importorskip("av")

from .mutations import mutated

COUNT = int(os.environ.get("WORLDFLUX_MUTATIONS", "40"))
SETS = (
    "clips/mp4",
    "clips/gif",
    "lerobot/v3-video-h264-2cams",
    "lerobot/v3-video-av1",
    "lerobot/v3-images",
    "lerobot/v21-video",
)
MAY_DIFFER = {".csv": {"action"}, ".gif": {"obs/video"}, ".parquet": {"obs/state", "action", "reward"}}


def read(place, format):
    data = open_dataset(place, format=format)
    episodes = [data.episode(i) for i in range(len(data.episodes))]
    data.recording.close()
    return data, episodes


def different(episodes, others):
    """The columns that are not the same, or not in both."""
    assert len(episodes) == len(others)
    names = {name for rows in (*episodes, *others) for name in rows}
    return {
        name
        for name in names
        for a, b in zip(episodes, others, strict=True)
        if name not in a or name not in b or a[name].shape != b[name].shape or (a[name] != b[name]).any()
    }


@pytest.mark.parametrize("name", SETS)
def test_a_damaged_set_is_refused_or_read_as_far_as_its_format_can_tell(sets, tmp_path, name):
    format = name.partition("/")[0]
    _, right = read(sets / name, format)
    refused = 0
    for seed in range(COUNT):
        what = mutated(sets / name, tmp_path / "set", seed)
        try:
            data, got = read(tmp_path / "set", format)
        except (DatasetError, ConfigurationError):
            refused += 1
            continue
        ending = "." + what.split(": ")[1].rsplit(".", 1)[-1]
        lost = different(right, got)
        if ending == ".json" and any("left out" in one for one in data.remarks):
            continue  # a feature that the set now says is something else, and the remark names it
        assert lost <= MAY_DIFFER.get(ending, set()), f"{what}: {lost} differ"
    assert refused > COUNT / 3
