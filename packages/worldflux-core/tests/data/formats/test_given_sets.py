"""Files that the libraries owning a format wrote are read as they wrote them, and their damaged twins are refused.

The smallest lie beside the tests. ``WORLDFLUX_FORMATS=DIR`` names a folder of more: ``FORMAT/SET/expected.json`` and
``broken/NAME/broken.json``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from worldflux.data import DatasetError, open_dataset
from worldflux.data.formats import FORMATS

pytest.importorskip("pyarrow")

SETS = Path(__file__).parent / "sets"
MORE = Path(os.environ["WORLDFLUX_FORMATS"]) if os.environ.get("WORLDFLUX_FORMATS") else None
CALLED = {
    "hf_parquet": "parquet",
    "hf-parquet": "parquet",
    "npz_folder": "npz",
    "npz-folder": "npz",
    "dreamerv3-replay": "dreamerv3",
    "dreamerv3_torch": "dreamerv3-torch",
    "stable-worldmodel": "swm",
}
NO_MORE = pytest.mark.skip(reason="WORLDFLUX_FORMATS names no folder of further sets")


def found(root: Path | None, pattern: str) -> list:
    places = sorted(file.parent for file in root.glob(pattern)) if root else []
    places = [place for place in places if CALLED.get(place.parent.name, place.parent.name) in (*FORMATS, "broken")]
    return [pytest.param(place, id=f"{place.parent.name}/{place.name}") for place in places] or [
        pytest.param(None, marks=NO_MORE)
    ]


def read_all(place: Path, name: str) -> None:
    dataset = open_dataset(place, format=name)
    for i in range(len(dataset.episodes)):
        dataset.episode(i)


def check(check_expected, place: Path) -> None:
    dataset = open_dataset(place)
    assert dataset.recording.format == CALLED.get(place.parent.name, place.parent.name)
    check_expected(dataset, place)
    if dataset.episodes.stand_in.any():
        assert dataset.remarks
        strict = open_dataset(place, tail="drop")
        assert not strict.episodes.stand_in.any()
        check_expected(strict, place)
        strict.recording.close()
    dataset.recording.close()


@pytest.mark.parametrize("place", found(SETS, "*/*/expected.json"))
def test_a_set_reads_as_it_was_written(check_expected, place):
    check(check_expected, place)


@pytest.mark.parametrize("place", found(MORE, "*/*/expected.json"))
def test_any_given_set_reads_as_it_was_written(check_expected, place):
    check(check_expected, place)


@pytest.mark.parametrize("place", found(MORE, "broken/*/broken.json"))
def test_any_broken_twin_is_refused_by_name(place):
    said = json.loads((place / "broken.json").read_text())
    name = CALLED.get(said["format"], said["format"])
    if name not in FORMATS:
        pytest.skip(f"no reader of {name}")
    if said["right"].startswith("read"):
        assert open_dataset(place, format=name).remarks
        return
    if "dropped or marked" in said["right"]:
        assert any("cut" in one for one in open_dataset(place, format=name).remarks)
        return
    with pytest.raises(DatasetError) as refused:
        read_all(place, name)
    message = str(refused.value)
    if said["file"]:
        assert Path(said["file"]).name in message
    if said["episode"] is not None and "episode" in said["right"]:
        assert f"episode {said['episode']}" in message
    if said["row"] is not None and "row" in said["right"]:
        assert f"row {said['row']}" in message
