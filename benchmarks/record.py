"""Keeps a measurement in ``docs/results`` as JSON, in the form that docs/results/README.md describes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import date
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def record(name: str, *, case: Mapping[str, Any], key: str, **facts: Any) -> Path:
    """Write ``facts`` to NAME.json, and ``case`` among its results in place of the earlier one of its ``key``.

    ``notes`` written there by hand stay.
    """
    file = RESULTS / f"{name}.json"
    before = json.loads(file.read_text()) if file.exists() else {"results": []}
    others = [result for result in before["results"] if result[key] != case[key]]
    results = sorted([*others, dict(case)], key=lambda result: str(result[key]))
    facts |= {"notes": before["notes"]} if "notes" in before else {}
    seeds = {"seeds": [r["seed"] for r in results]} if key == "seed" else {}
    passed = {"passed": all(r["passed"] for r in results)} if all("passed" in r for r in results) else {}
    facts = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "commit": COMMIT,
        **facts,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**facts, **seeds, "results": results, **passed}, indent=2) + "\n")
    return file


def machine() -> dict[str, Any]:
    """What this runs on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def processor() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python, torch and what is ours."""
    ours = sorted(d.name for d in distributions() if d.name.startswith("worldflux-"))
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "gymnasium", *ours)}}


def commit() -> str:
    """The commit the checkout is at."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


COMMIT = commit()  # when a measurement begins: it may take hours
