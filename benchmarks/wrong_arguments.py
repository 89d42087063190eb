"""The share of refusals of wrong arguments that are ours: ``python benchmarks/wrong_arguments.py --record``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from record import ROOT, record

sys.path.insert(0, str(ROOT / "tests"))
from test_wrong_arguments import refusals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = refusals(Path(folder), examples=asked.calls, seed=asked.seed)
        os.chdir(ROOT)
    foreign = sum(found.foreign.values())
    share = found.ours / (found.ours + foreign)
    case = {
        "seed": asked.seed,
        "command": f"python benchmarks/wrong_arguments.py {' '.join(sys.argv[1:])}",
        "calls": found.calls,
        "taken": found.taken,
        "refused_by_ours": found.ours,
        "refused_by_others": foreign,
        "share": share,
        "passed": share >= 0.99,
    }
    print(case, *found.foreign, sep="\n")
    if asked.record:
        record(
            "wrong-arguments",
            case=case,
            key="seed",
            what="Share of refusals of wrong arguments at the Python door that are errors of worldflux",
            command="python benchmarks/wrong_arguments.py --record",
            bar="at least 99 % of refusals are errors of worldflux",
        )


if __name__ == "__main__":
    main()
