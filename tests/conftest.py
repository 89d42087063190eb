"""What the tests across packages share: where the checkout is, and a clean process to run things in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def fresh_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python *args`` in an empty directory, without the caller's plugin settings, offline, windowless."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WORLDFLUX_", "PYTHON"))}
    env |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy", "HF_HUB_OFFLINE": "1"}
    env |= {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*args: str, timeout: float = 180, **extra_env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *args]
        return subprocess.run(
            command,
            cwd=cwd,
            env=env | extra_env,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )

    return run
