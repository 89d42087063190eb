"""Files with a few bytes flipped, cut, inserted or zeroed are read as they were, or refused by name: nothing else.

``WORLDFLUX_MUTATIONS=N`` asks for N in all (default 450).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset

COUNT = int(os.environ.get("WORLDFLUX_MUTATIONS", "450"))
SETS = Path(__file__).parent / "sets"
#: Folder of the sets -> name of the format. Every byte of the first four is under a checksum.
CHECKED = {"dreamerv3": "dreamerv3", "dreamerv3_torch": "dreamerv3-torch", "tdmpc2": "tdmpc2", "npz_folder": "npz"}
UNCHECKED = {"hf_parquet": "parquet"}


def damaged(data: bytes, rng: random.Random) -> bytes:
    out, at = bytearray(data), rng.randrange(len(data))
    size = rng.choice([1, 7, 64, len(data) // 3])
    kind = rng.choice(["flip", "cut", "insert", "zero", "scatter", "end"])
    if kind == "flip":
        out[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del out[at : at + size]
    elif kind == "insert":
        out[at:at] = rng.randbytes(size)
    elif kind == "zero":
        out[at : at + size] = bytes(len(out[at : at + size]))
    elif kind == "scatter":
        for _ in range(4):
            out[rng.randrange(len(out))] = rng.randrange(256)
    else:
        del out[at:]
    return bytes(out)


def said_of(place: Path, format: str):
    """What is read, or what is said of why nothing is."""
    try:
        return read(place, format), None
    except (DatasetError, ConfigurationError) as error:
        return None, str(error)


def read(place: Path, format: str):
    dataset = open_dataset(place, format=format)
    return [dataset.episode(i) for i in range(len(dataset.episodes))], dataset.action_spec, dict(dataset.obs_spec)


def same(left, right) -> bool:
    if left[1:] != right[1:] or len(left[0]) != len(right[0]):
        return False
    pairs = zip(left[0], right[0], strict=True)
    return all(a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a) for a, b in pairs)


def places(formats):
    return [
        pytest.param(place, name, id=f"{folder}/{place.name}")
        for folder, name in formats.items()
        for place in sorted((SETS / folder).iterdir())
    ]


def mutants(copied, place):
    """A copy of a set, damaged anew each time."""
    rng = random.Random(f"{place.parent.name}/{place.name}")
    folder = copied(f"{place.parent.name}/{place.name}")
    files = sorted(file for file in folder.iterdir() if file.suffix != ".json")
    for _ in range(max(1, COUNT // 15)):  # as there are so many sets
        file = rng.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, rng))
        yield folder, file
        file.write_bytes(whole)


@pytest.mark.parametrize(("place", "format"), places(CHECKED))
def test_a_damaged_file_is_refused_by_name_or_gives_the_same_numbers(copied, place, format):
    whole = read(place, format)
    for folder, file in mutants(copied, place):
        got, said = said_of(folder, format)
        assert same(got, whole) if said is None else file.name in said and len(said) < 1000 + len(str(file))


@pytest.mark.parametrize(("place", "format"), places(UNCHECKED))
def test_a_damaged_table_is_refused_or_read_and_nothing_else(copied, place, format):
    pytest.importorskip("pyarrow")
    pytest.importorskip("PIL")
    for folder, _ in mutants(copied, place):
        got, said = said_of(folder, format)
        if said is None:
            assert all(np.isfinite(values).all() for episode in got[0] for values in episode.values())
        else:
            assert str(folder) in said
