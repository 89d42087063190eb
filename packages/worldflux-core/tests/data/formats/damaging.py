"""Damages copies of sets at random and reads them: ``damaging.py COUNT SEED FOLDER``, FOLDER holding FORMAT/SET.

Each must be refused by an error of ours that names the set, or be read, and then only what its format has no sums for
may differ. Prints a line of JSON for each fault it finds and one at the end. A crash or a hang ends the process, and
the last line of ``trying`` tells over what.
"""

from __future__ import annotations

import collections
import functools
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from worldflux.core.errors import ConfigurationError
from worldflux.data import DatasetError, open_dataset
from worldflux.data.formats import FORMATS

CALLED = {"hf_parquet": "parquet", "npz_folder": "npz", "dreamerv3_torch": "dreamerv3-torch"}
SECONDS, MEMORY = 20, 1 << 20  # KiB that one file may add to what the process has ever held
ODD = [None, -1, 0, 1, 2**31, 2**63, 2**70, 1e308, float("nan"), "", "x", "../../x", [], {}, True, [[0]], "Ω" * 50]
CELLS = ["", "nan", "-1", "1e999", "x", "0x1", "../a.mp4", '"', "1_0"]
#: What may be other numbers after damage to a file, by its ending, as nothing in it tells; of the rest anything may.
PIXELS = {"obs/video", "obs/front", "obs/wrist", "obs/image", "obs/pixels"}
MAY_DIFFER = {".npz": set(), ".pt": set(), ".csv": {"action", "reward"}, ".gif": PIXELS, ".mp4": PIXELS}
OF_LEROBOT = {".parquet": {"obs/state", "action", "reward"}, ".json": set(), ".jsonl": set()}


def read(place: Path, name: str) -> tuple[list[dict[str, np.ndarray]], tuple[str, ...]]:
    dataset = open_dataset(place, format=name)
    episodes = [dataset.episode(i) for i in range(len(dataset.episodes))]
    dataset.recording.close()
    return episodes, dataset.remarks


def different(episodes: list, others: list) -> set[str]:
    """The columns that are not the same, or not in both."""
    if len(episodes) != len(others):
        return {"episodes"}
    names = {name for rows in (*episodes, *others) for name in rows}
    pairs = list(zip(episodes, others, strict=True))
    return {n for n in names for a, b in pairs if n not in a or n not in b or not np.array_equal(a[n], b[n])}


def judged(place: Path, name: str, file: Path, true: list) -> tuple[str, str]:
    """What became of reading a damaged set, whose ``true`` episodes are known, and what is wrong with that."""
    try:
        got, remarks = read(place, name)
    except (DatasetError, ConfigurationError) as error:
        named = str(place) in str(error) and len(str(error)) < 1000 + 2 * len(str(place))
        return ("refused", "") if named else ("fault", f"it does not name the set: {str(error)[:500]}")
    except Exception:
        return "fault", traceback.format_exc(limit=-3)
    lost = different(true, got)
    rules = MAY_DIFFER | (OF_LEROBOT if name == "lerobot" else {})
    said = name == "lerobot" and any("left out" in one for one in remarks)  # a feature that is something else now
    if not file.exists() or said or file.suffix not in rules:
        return ("changed" if lost else "same"), ""
    beyond = lost - rules[file.suffix]
    return ("fault", f"other numbers, in silence: {sorted(beyond)}") if beyond else ("changed" if lost else "same", "")


def attempt(place: Path, name: str, file: Path, true: list) -> tuple[str, str]:
    """Do so within the time and the memory that one set may take."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)  # nobody catches it: what hangs in a library is ended
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        outcome = judged(place, name, file, true)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MEMORY:
        return "fault", "more than a GiB was taken"
    return outcome


def damage(place: Path, rng: random.Random) -> tuple[Path, str]:
    """Damage one file of a set; return it and what was done."""
    file = rng.choice(sorted(one for one in place.rglob("*") if one.is_file() and one.name != "expected.json"))
    if file.suffix in (".json", ".jsonl", ".csv") and rng.random() < 0.7:
        file.write_text(damage_text(file, rng))
        return file, "a field"
    if rng.random() < 0.03:
        file.unlink()
        return file, "gone"
    data, what = damage_bytes(file.read_bytes(), rng)
    file.write_bytes(data)
    return file, what


def damage_text(file: Path, rng: random.Random) -> str:
    if file.suffix == ".json":
        return json.dumps(damage_json(json.loads(file.read_text()), rng))
    lines = file.read_text().splitlines()
    at = rng.randrange(len(lines))
    if file.suffix == ".jsonl":
        lines[at] = json.dumps(damage_json(json.loads(lines[at]), rng))
    else:
        cells = lines[at].split(",")
        cells[rng.randrange(len(cells))] = rng.choice(CELLS)
        lines[at] = ",".join(cells)
    return "\n".join(lines)


def damage_json(value: Any, rng: random.Random) -> Any:
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


def damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    at, size = rng.randrange(len(data)), rng.choice([1, 1, 2, 4, 8, 64, 512, len(data) // 3])
    kind = rng.choice(["flip", "flip", "byte", "scatter", "zero", "ones", "cut", "drop", "insert", "repeat"])
    out = bytearray(data)
    if kind == "flip":
        out[at] ^= 1 << rng.randrange(8)
    elif kind in ("byte", "scatter"):
        for place in [at] if kind == "byte" else rng.choices(range(len(out)), k=4):
            out[place] = rng.randrange(256)
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


def main(count: int, seed: int, root: Path) -> None:
    named = [(CALLED.get(place.parent.name, place.parent.name), place) for place in sorted(root.glob("*/*/"))]
    sets = [(name, place) for name, place in named if name in FORMATS]
    true = functools.cache(lambda place, name: read(place, name)[0])
    order = random.Random(seed).sample(range(len(sets)), len(sets))  # so that a few are not always the same
    seen: collections.Counter = collections.Counter()
    for k in range(count):
        rng = random.Random(f"{seed}/{k}")
        name, place = sets[order[k % len(sets)]]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copytree(place, Path(folder) / "set"))
            file, what = damage(copy, rng)
            about = {"k": k, "set": f"{name}/{place.name}", "file": str(file.relative_to(copy)), "damage": what}
            print("trying", json.dumps(about), file=sys.stderr, flush=True)
            outcome, why = attempt(copy, name, file, true(place, name))
        seen[name, outcome] += 1
        if outcome == "fault":
            print(json.dumps(about | {"why": why}), flush=True)
    print(json.dumps({f"{name} {outcome}": number for (name, outcome), number in sorted(seen.items())}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
