"""Sets damaged at random: an error of ours or the rows that were there, never a traceback, a crash, a hang or a grab.

HDF5, Arrow, JPEG and MP4 keep no sums of their numbers (HDF5 only with its fletcher32 filter, which nobody here sets),
so a flipped bit may be read as another number; npz and torch's files do, and there nothing else may come out.
``WORLDFLUX_MUTATIONS=3000`` sets how many over all sets, ``WORLDFLUX_MUTATION_SEED`` which, ``WORLDFLUX_FORMATS`` a
folder of more sets.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
pytest.importorskip("av")
pytest.importorskip("resource")  # needs signals and limits of a POSIX system

from .damaging import judged, read

HERE = Path(__file__).parent
COUNT, SEED = os.environ.get("WORLDFLUX_MUTATIONS", "60"), os.environ.get("WORLDFLUX_MUTATION_SEED", "0")


def test_damaged_sets_are_refused_by_name_or_read_as_far_as_their_format_can_tell():
    root = os.environ.get("WORLDFLUX_FORMATS") or HERE / "sets"
    command = [sys.executable, str(HERE / "damaging.py"), COUNT, SEED, str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    *faults, counts = done.stdout.splitlines()
    assert not faults, "\n".join(faults)
    refused = sum(number for what, number in json.loads(counts).items() if what.endswith("refused"))
    assert refused > int(COUNT) / 3


def test_other_numbers_out_of_a_file_with_sums_are_a_fault(sets):
    place = sets / "npz_folder/arrival"
    right, _ = read(place, "npz")
    file = next(place.glob("*.npz"))
    assert judged(place, "npz", file, right) == ("same", "")
    right[0]["action"] = right[0]["action"] + 1
    outcome, why = judged(place, "npz", file, right)
    assert outcome == "fault" and "['action']" in why
