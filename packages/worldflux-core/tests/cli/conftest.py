"""The command in fresh processes, with a toy family installed beside it and nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
DRIVER = """
import contextlib, io, json, sys
from worldflux.cli import main
results = []
for argv in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(argv)
        except SystemExit as stop:
            code = stop.code or 0
    results.append([code, out.getvalue(), err.getvalue()])
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of distributions with the toy family in it."""
    root = tmp_path_factory.mktemp("site")
    shutil.copytree(HERE / "toy_world", root / "toy_world", ignore=shutil.ignore_patterns("__pycache__"))
    info = root / "toy_world-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-world\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[worldflux.models]\ntoyworld = toy_world.plugin\n")
    return root


class Terminal:
    """Runs ``worldflux`` in a directory, sparing it the caller's settings."""

    def __init__(self, cwd: Path, site: Path) -> None:
        self.cwd, self.site = cwd, site
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WORLDFLUX_", "PYTHON"))}
        self.env = {
            **kept,
            "PYTHONPATH": str(site),
            "WORLDFLUX_PLUGINS": "toy-world",
            "OMP_NUM_THREADS": "1",
            "SDL_VIDEODRIVER": "dummy",
            "COLUMNS": "120",
        }

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "worldflux", *args]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.cwd, env=self.env | env, **pipes)

    def __call__(self, *args: str, **env: str) -> SimpleNamespace:
        process = self.start(*args, **env)
        out, err = process.communicate(timeout=300)
        return SimpleNamespace(code=process.returncode, out=out, err=err)

    def several(self, *calls: list[str], **env: str) -> list[SimpleNamespace]:
        """Run several calls in one process, which imports torch only once."""
        command = [sys.executable, "-c", DRIVER, json.dumps(calls)]
        done = subprocess.run(
            command,
            cwd=self.cwd,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [SimpleNamespace(code=code, out=out, err=err) for code, out, err in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def worldflux(tmp_path_factory, site):
    return Terminal(tmp_path_factory.mktemp("cwd"), site)


@pytest.fixture(scope="module")
def toy():
    """The toy family, registered as a user's own script would."""
    spec = importlib.util.spec_from_file_location("toy_world_script", HERE / "toy_world" / "plugin.py")
    from worldflux.core.registry import WorldModelRegistry

    module = importlib.util.module_from_spec(spec)
    before = WorldModelRegistry.snapshot()
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    WorldModelRegistry.register("toyworld")(module.ToyWorld)
    yield module
    WorldModelRegistry.restore(before)
    del sys.modules[spec.name]
