"""Kill the command at random moments, go on with `--resume`, and hold what comes of it against a run nobody touched.

    python benchmarks/kills.py mbpo:ci --kills 20
    python benchmarks/kills.py dreamer:ci planet:ci tdmpc2:ci mbpo:ci --kills 20 --record
    python benchmarks/kills.py mbpo:ci --signal SIGTERM --kills 30 --record

One moment in five is drawn uniformly over the whole command, the others over what follows once it has made its run
(before that it only imports); each is a run of its own, in a directory of its own. A run passes if its weights, its
evaluation and the lines of its metrics (but for times) are bit by bit those of the untouched run, no line stands there
twice, and the exit codes are right: with SIGTERM 143, unless it came before the command listens (it dies of the signal
then) or after all was done.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from record import record
from safetensors.torch import load_file

SMALL = {"--batch-size": "8", "--sequence-length": "8", "--num-envs": "2", "--eval-episodes": "2"}
COMMON = {"--seed": "6", "--device": "cpu", "--eval-share": "1", "--save-every": "40", "--eval-every": "100"}
CASES: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "dreamer:ci": ("CartPole-v1", {"--steps": "300", "--replay-ratio": "32"}, []),
    "planet:ci": ("Pendulum-v1", {"--steps": "300", "--replay-ratio": "16", "--eval-episodes": "1"}, []),
    "tdmpc2:ci": (
        "Pendulum-v1",
        {"--steps": "300", "--replay-ratio": "16", "--eval-episodes": "1"},
        ["seed_steps=150"],
    ),
    "mbpo:ci": ("Pendulum-v1", {"--steps": "400", "--replay-ratio": "32"}, ["seed_steps=150"]),
}
TIMES = {"time", "updates_per_second", "eval/seconds"}


def main() -> None:
    """Run the campaign that the arguments describe, print what failed, and exit with 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=CASES, metavar="FAMILY", help=", ".join(CASES))
    parser.add_argument("--kills", type=int, default=20, help="moments for each family")
    parser.add_argument("--signal", default="SIGKILL", choices=["SIGKILL", "SIGTERM", "SIGINT"])
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--record", action="store_true", help="keep the result in docs/results")
    given = parser.parse_args()
    failed = False
    for family in given.families:
        with tempfile.TemporaryDirectory() as folder:
            result = campaign(family, Path(folder), signal.Signals[given.signal], given.kills, given.seed)
        print(json.dumps(result, indent=2), flush=True)
        failed = failed or not result["passed"]
        if given.record:
            what = "Runs of the command that a signal met at random moments, gone on with, against a run nobody touched"
            command = f"python benchmarks/kills.py {' '.join(sys.argv[1:])}"
            record("kills", case={**result, "command": command}, key="case", what=what, command=command)
    sys.exit(int(failed))


def campaign(family: str, folder: Path, number: signal.Signals, kills: int, seed: int) -> dict[str, Any]:
    """Return what came of ``kills`` runs that a signal met at random moments."""
    draw, began = random.Random(f"{family} {number.name} {seed}"), time.monotonic()
    process = start(family, folder / "whole")
    wait_for_run(process, folder / "whole")
    imports = time.monotonic() - began
    code, problem = finish(process)
    assert code == 0, problem
    span, expected = time.monotonic() - began, outcome(folder / "whole")
    runs = []
    for index in range(kills):
        directory = folder / str(index)
        made = index % 5 > 0
        after = draw.uniform(0, span - imports if made else span)
        runs.append(killed(family, directory, number, after, made, expected))
        print(f"{family} {number.name} {index + 1}/{kills}: {runs[-1]}", file=sys.stderr, flush=True)
        shutil.rmtree(directory, ignore_errors=True)
    wrong = [run for run in runs if run["problems"]]
    return {
        "case": f"{family} {number.name}",
        "runs": len(runs),
        "seconds_untouched": round(span, 1),
        "found_at": dict(Counter(run["found"] for run in runs)),
        "exit_codes": dict(Counter(str(run["exit_code"]) for run in runs)),
        "bit_equal": sum("weights" not in run["problems"] for run in runs),
        "wrong": wrong,
        "passed": not wrong,
    }


def killed(
    family: str, directory: Path, number: signal.Signals, after: float, made: bool, expected: dict[str, Any]
) -> dict[str, Any]:
    """Start a run, send it the signal ``after`` so many seconds (since it was ``made``), go on with it, and compare."""
    process = start(family, directory)
    if made:
        wait_for_run(process, directory)
    time.sleep(after)
    process.send_signal(number)
    code, said = finish(process)
    found = state(directory)
    problems = [] if right(code, number) else [f"exit code {code}: {said[-300:]}"]
    if code == 128 + number and not list(directory.glob("checkpoints/step-*")):
        problems.append("it says it was saved, and there is no checkpoint")
    if found == "no run yet":
        again = start(family, directory)
    else:
        again = command("train", "--run", str(directory), "--resume", "--json")
    last, said = finish(again)
    if last != 0:
        problems.append(f"going on: exit code {last}: {said[-300:]}")
    else:
        got = outcome(directory)
        problems += [name for name in expected if expected[name] != got[name]]
        problems += ["a line stands twice"] if len(set(got["lines"])) < len(got["lines"]) else []
    stray = [path.name for path in directory.rglob(".*") if path.name != ".lock"]  # which a finished run need not take
    problems += [f"stray files {stray}"] if stray else []
    return {"after": round(after, 2), "found": found, "exit_code": code, "problems": problems}


def wait_for_run(process: subprocess.Popen[str], directory: Path) -> None:
    """Wait until a command has made its run, or has ended."""
    while process.poll() is None and not (directory / "config.json").is_file():
        time.sleep(0.01)


def right(code: int, number: signal.Signals) -> bool:
    """Whether a command that was sent a signal may exit so: finished, ended by it, or saved and gone."""
    if number == signal.SIGKILL:
        return code in (0, -number)
    return code in (0, -number, 128 + number)


def state(directory: Path) -> str:
    """How far a run had come, by what is in its directory."""
    if not (directory / "config.json").is_file():
        return "no run yet"
    if (directory / "evaluation.json").is_file():
        return "done"
    if (directory / "model").is_dir():
        return "evaluating at the end"
    steps = sorted(directory.glob("checkpoints/step-*"))
    if not steps:
        return "no checkpoint yet"
    return "before the first update" if steps[-1].name == "step-000000" else "training"


def outcome(directory: Path) -> dict[str, Any]:
    """The weights, the evaluation and the lines of the metrics, without times."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    kept = [json.dumps({k: v for k, v in line.items() if k not in TIMES}, sort_keys=True) for line in lines]
    files = sorted((directory / "model").glob("*.safetensors"))
    tensors = {f"{file.name} {name}": value for file in files for name, value in load_file(file).items()}
    weights = {name: value.numpy().tobytes() for name, value in tensors.items()}
    return {"weights": weights, "evaluation": (directory / "evaluation.json").read_text(), "lines": kept}


def start(family: str, directory: Path) -> subprocess.Popen[str]:
    """Start the training of a family in a directory."""
    env, own, settings = CASES[family]
    options = [part for pair in {**COMMON, **SMALL, **own}.items() for part in pair]
    chosen = [part for setting in settings for part in ("--set", setting)]
    return command("train", family, "--env", env, "--run", str(directory), "--json", *options, *chosen)


def command(*arguments: str) -> subprocess.Popen[str]:
    """Start the command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, "-m", "worldflux.cli", *arguments], env=environment, **pipes)  # type: ignore[call-overload, no-any-return]


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process and return its exit code and what it said."""
    out, _ = process.communicate(timeout=600)
    return process.returncode, out


if __name__ == "__main__":
    main()
