"""Kill ``data collect`` and ``data convert`` at random moments, go on, and look at every sealed episode.

    python benchmarks/data_kills.py --kills 20 [--record]

``collect``: one dataset, killed again and again while it grows. After each kill every episode that was there before is
there, bit by bit, none is there twice, none is half (Pendulum's have 201 rows), and every hash is right; in the end the
command is let finish, and the dataset holds exactly what was asked for. ``convert``: the same with the conversion of a
dataset of images, begun anew when it was done; what is written is always the source's first episodes, bit by bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from worldflux.core.spec import ActionSpec, ModalityKind, ModalitySpec
from worldflux.data import Dataset, DatasetWriter, open_dataset

IMAGE = {"image": ModalitySpec(ModalityKind.IMAGE, (3, 64, 64), "uint8")}
ROWS = 201  # of every episode of Pendulum-v1


def main() -> None:
    """Run both campaigns, print what came of them, and exit with 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="moments for each verb")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    given = parser.parse_args()
    failed = False
    for campaign in (collecting, converting):
        with tempfile.TemporaryDirectory() as folder:
            result = campaign(Path(folder), given.kills, random.Random(f"{campaign.__name__} {given.seed}"))
        print(json.dumps(result, indent=2), flush=True)
        failed = failed or not result["passed"]
        if given.record:
            what = "Recording and converting datasets, killed at random moments and gone on with"
            command = f"python benchmarks/data_kills.py {' '.join(sys.argv[1:])}"
            record("data-kills", case=result, key="case", what=what, command=command)
    sys.exit(int(failed))


def collecting(folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kill ``data collect``, always on the same dataset."""
    place, before, problems, grew = folder / "set", {}, [], 0
    command = ["collect", "--env", "Pendulum-v1", "--out", str(place), "--seal-seconds", "0.05"]
    for _ in range(kills):
        killed([*command, "--episodes", "1000000"], place / ".lock", draw)
        after = contents(place, problems)
        problems += [f"{name} is gone or another" for name in before if after.get(name) != before[name]]
        grew += len(after) > len(before)
        before = after
    finish([*command, "--episodes", str(len(before) + 3)])
    last = contents(place, problems)
    problems += [] if len(last) == len(before) + 3 else [f"{len(last)} episodes, {len(before) + 3} were asked for"]
    problems += ["an episode is there twice"] if len(set(last.values())) < len(last) else []
    if last:
        lengths = set(open_dataset(place).episodes.lengths.tolist())
        problems += [] if lengths == {ROWS} else [f"episodes have {lengths} rows"]
    return told("collect", kills, grew, len(last), problems)


def converting(folder: Path, kills: int, draw: random.Random) -> dict[str, Any]:
    """Kill ``data convert``, and begin another conversion when one is done."""
    source, place, problems, grew = folder / "source", folder / "set", [], 0
    write_images(source)
    expected = list(contents(source, problems).items())
    command = ["convert", str(source), str(place), "--images", "zstd"]
    for _ in range(kills):
        count = len(contents(place, problems))
        if count == len(expected):
            shutil.rmtree(place)
        killed(command, place / ".lock", draw, most=4.0)
        found = list(contents(place, problems).items())
        grew += len(found) != count
        problems += [] if found == expected[: len(found)] else [f"{len(found)} episodes are not the source's first"]
    finish(command)
    found = list(contents(place, problems).items())
    problems += [] if found == expected else ["what was converted in the end is not the source"]
    return told("convert", kills, grew, len(found), problems)


def told(verb: str, kills: int, grew: int, episodes: int, problems: list[str]) -> dict[str, Any]:
    """What came of a campaign."""
    return {
        "case": f"data {verb}",
        "kills": kills,
        "kills_after_something_was_sealed": grew,
        "episodes_in_the_end": episodes,
        "problems": problems,
        "passed": not problems,
    }


def killed(command: list[str], begun: Path, draw: random.Random, *, most: float = 3.0) -> None:
    """Start a command and kill it: one time in five at any moment, else some time after it has begun to write."""
    begun.unlink(missing_ok=True)  # of the one that was killed before
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "worldflux.cli", "data", *command], **quiet)
    at_any_moment = draw.random() < 0.2
    while not at_any_moment and process.poll() is None and not begun.exists():
        time.sleep(0.01)
    time.sleep(draw.uniform(0, most))
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(command: list[str]) -> None:
    """Let a command come to its end."""
    subprocess.run([sys.executable, "-m", "worldflux.cli", "data", *command], check=True, capture_output=True)


def contents(place: Path, problems: list[str]) -> dict[str, str]:
    """Every episode by id, as a hash of its rows; what is wrong with the dataset goes to ``problems``."""
    if not (place / "dataset.json").exists():
        return {}
    dataset: Dataset = open_dataset(place, verify=False)
    problems += map(str, dataset.recording.verify())
    found = {}
    for index, name in enumerate(dataset.episodes.ids):
        digest = hashlib.sha256()
        for column, rows in sorted(dataset.episode(index).items()):
            digest.update(column.encode() + np.ascontiguousarray(rows).tobytes())
        found[name] = digest.hexdigest()
    return found


def write_images(place: Path) -> None:
    """Write 120 episodes of 200 pictures, in many shards."""
    rng = np.random.default_rng(0)
    with DatasetWriter(place, IMAGE, ActionSpec("continuous", 2), shard_bytes=8 << 20) as writer:
        for _ in range(120):
            shown = rng.integers(0, 256, (200, 3, 8, 8), np.uint8).repeat(8, 2).repeat(8, 3)
            reward = np.r_[0, rng.random(199)]
            writer.append({"obs/image": shown, "action": rng.random((200, 2)), "reward": reward})


if __name__ == "__main__":
    main()
