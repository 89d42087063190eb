"""Damages copies of sets at random and reads them: ``damaging.py COUNT SEED FOLDER``, FOLDER holding FORMAT/SET.

Each must be refused by an error of ours, or be read. Where the damaged file has sums of its own (npz), what is read
must be what was there. Prints a line of JSON for each fault it finds and one at the end. A crash or a hang ends the
process, and the last line of ``trying`` tells over what.
"""

from __future__ import annotations

import collections
import hashlib
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset
from worldflux.data.formats import FORMATS

CALLED = {"hf_parquet": "parquet", "npz_folder": "npz", "dreamerv3_torch": "dreamerv3-torch"}
SECONDS, MEMORY = 20, 1 << 20  # KiB that one file may add to what the process has ever held
SUMMED = {".npz"}  # endings of files that notice any change of their numbers
ODD = [None, -1, 0, 1, 2**31, 2**70, 1e308, float("nan"), "", "x", "../../x", [], {}, True, [[0]], "Ω" * 50]


def fingerprint(place: Path, name: str) -> str:
    """A digest of every row, and of what is said of them."""
    dataset = open_dataset(place, format=name)
    digest = hashlib.sha256(repr((dataset.episodes.ids, dataset.remarks)).encode())
    for i in range(len(dataset.episodes)):
        for column, rows in dataset.episode(i).items():
            digest.update(column.encode() + np.ascontiguousarray(rows).tobytes())
    dataset.recording.close()
    return digest.hexdigest()


def damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = rng.randrange(len(data)), rng.choice([1, 1, 2, 4, 8, 64, 512])
    kind = rng.choice(["flip", "flip", "byte", "zero", "ones", "cut", "drop", "insert", "repeat"])
    out = bytearray(data)
    if kind == "flip":
        out[at] ^= 1 << rng.randrange(8)
    elif kind == "byte":
        out[at] = rng.randrange(256)
    elif kind in ("zero", "ones"):
        span = len(out[at : at + size])
        out[at : at + size] = (b"\0" if kind == "zero" else b"\xff") * span
    elif kind == "cut":
        del out[at:]
    elif kind == "drop":
        del out[at : at + size]
    elif kind == "insert":
        out[at:at] = rng.randbytes(size)
    else:
        out[at:at] = out[at : at + size]
    return bytes(out), f"{kind} {size} at {at}"


def damage_json(value, rng: random.Random):
    """Change one field somewhere inside, also inside a text that is JSON itself."""
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.9:
        return json.dumps(damage_json(json.loads(value), rng))
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if rng.random() < 0.15:
            del value[key]
        else:
            value[key] = damage_json(value[key], rng)
        return value
    if isinstance(value, (int, float)) and rng.random() < 0.4:
        return value + rng.choice([-1, 1])
    return rng.choice(ODD)


def damage(place: Path, rng: random.Random) -> tuple[Path, str]:
    files = sorted(file for file in place.rglob("*") if file.is_file() and file.name != "expected.json")
    file = rng.choice(files)
    if file.suffix == ".json" and rng.random() < 0.7:
        file.write_text(json.dumps(damage_json(json.loads(file.read_text()), rng)))
        return file, "a field"
    if rng.random() < 0.03:
        file.unlink()
        return file, "gone"
    data, what = damage_bytes(file.read_bytes(), rng)
    file.write_bytes(data)
    return file, what


def attempt(place: Path, name: str, file: Path, true: str) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # nobody catches it: what hangs in a library is ended
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        same = fingerprint(place, name) == true
    except (DatasetError, ConfigurationError) as error:
        outcome = ("refused", "") if len(str(error)) > 20 else ("fault", f"it says nothing: {error}")
    except Exception:
        outcome = ("fault", traceback.format_exc(limit=-3))
    else:
        silent = not same and file.suffix in SUMMED and file.exists()  # what is gone has no sums
        outcome = ("fault", "other numbers, in silence") if silent else ("same" if same else "changed", "")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MEMORY:
        outcome = ("fault", "more than a GiB was taken")
    return outcome


def main(count: int, seed: int, root: Path) -> None:
    named = [(CALLED.get(place.parent.name, place.parent.name), place) for place in sorted(root.glob("*/*/"))]
    sets = [(name, place) for name, place in named if name in FORMATS]
    truth = {place: fingerprint(place, name) for name, place in sets}
    seen: collections.Counter = collections.Counter()
    for k in range(count):
        rng = random.Random(f"{seed}/{k}")
        name, place = sets[k % len(sets)]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(place, Path(folder) / "set"))
            file, what = damage(copy, rng)
            about = {"k": k, "set": f"{name}/{place.name}", "file": str(file.relative_to(copy)), "damage": what}
            print("trying", json.dumps(about), file=sys.stderr, flush=True)
            outcome, why = attempt(copy, name, file, truth[place])
        seen[name, outcome] += 1
        if outcome == "fault":
            print(json.dumps(about | {"why": why}), flush=True)
    print(json.dumps({f"{name} {outcome}": number for (name, outcome), number in sorted(seen.items())}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
