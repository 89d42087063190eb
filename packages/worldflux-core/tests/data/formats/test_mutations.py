"""Files damaged at random: an error of ours or readable rows, never a traceback, a crash, a hang or a grab for memory.

HDF5, Arrow, JPEG and MP4 keep no sums of their numbers (HDF5 only with its fletcher32 filter, which nobody here sets),
so a flipped bit may be read as another number; an npz does, and there nothing else may come out.
``WORLDFLUX_MUTATIONS=3000`` sets how many, ``WORLDFLUX_MUTATION_SEED`` which, ``WORLDFLUX_FORMATS`` a folder of more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("h5py")
pytest.importorskip("pyarrow")
pytest.importorskip("av")

HERE = Path(__file__).parent
COUNT, SEED = os.environ.get("WORLDFLUX_MUTATIONS", "100"), os.environ.get("WORLDFLUX_MUTATION_SEED", "0")


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals and limits of a POSIX system")
def test_damaged_files_are_refused_or_read():
    root = os.environ.get("WORLDFLUX_FORMATS") or HERE / "sets"
    command = [sys.executable, str(HERE / "damaging.py"), COUNT, SEED, str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    assert '"why"' not in done.stdout, done.stdout
