"""What can be seen of a plugin that is started in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from worldflux.testing import Startup, fixtures, observe
from worldflux.testing.runner import subjects

HANGS = """
import subprocess, sys, pathlib, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path({pid!r}).write_text(str(child.pid))
def wait_for_godot():
    time.sleep(60)
wait_for_godot()
"""
CHANGES = {
    "random's generator": "import random; random.random()",
    "numpy's generator": "numpy.random.rand()",
    "numpy's error handling": "numpy.seterr(all='raise')",
    "torch's generator": "torch.rand(1)",
    "torch's default dtype": "torch.set_default_dtype(torch.float64)",
    "torch's default device": "torch.set_default_device('meta')",
    "torch's grad mode": "torch.set_grad_enabled(False)",
    "torch's number of threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "torch's float32 precision": "torch.set_float32_matmul_precision('medium')",
    "torch's anomaly detection": "torch.autograd.set_detect_anomaly(True, check_nan=False)",
    "logging: level of the root logger": "logging.getLogger().setLevel(7)",
    "logging: handlers of the root logger": "logging.getLogger().addHandler(logging.NullHandler())",
    "logging: disabled": "logging.disable(logging.ERROR)",
    "os.environ['WORLDFLUX_TEST']": "os.environ['WORLDFLUX_TEST'] = '1'",
    "warnings filters": "warnings.filterwarnings('ignore', 'nonsense')",
    "handler of SIGINT": "signal.signal(signal.SIGINT, print)",
    "sys.excepthook": "sys.excepthook = print",
    "sys.path": "sys.path.append('nowhere')",
    "recursion limit": "sys.setrecursionlimit(12345)",
    "working directory": "os.chdir('..')",
    "running threads": "threading.Thread(target=time.sleep, args=(5,), name='t', daemon=True).start()",
    "multiprocessing start method": "multiprocessing.set_start_method('spawn')",
}
WATCHED = """
import json, logging, multiprocessing, os, signal, sys, threading, time, warnings
import numpy, torch
from worldflux.testing.startup_child import changes, global_state
found = {}
for name, statement in json.loads(sys.argv[1]).items():
    before = global_state()
    exec(statement)
    found[name] = sorted(changes(before, global_state()))
os.write(1, json.dumps(found).encode())
os._exit(0)
"""


@pytest.fixture
def started(make_plugin_dist):
    """Installs a plugin whose module begins with the given lines, and starts it."""

    def start(lines: str, *, timeout: float = 60):
        pytest.importorskip("torch")
        make_plugin_dist("acme-world", code=lines + fixtures.CODE.format(id="acme-world"))
        return observe(subjects("acme-world")[0].plugin, timeout=timeout)

    return start


def test_a_plugin_that_hangs_is_stopped_with_what_it_started_and_shown_with_its_line(started, tmp_path):
    pid = tmp_path / "pid"
    seen = started(HANGS.format(pid=str(pid)), timeout=1.5)
    assert seen.outcome == "hung"
    assert "not started after 1.5 s" in seen.reason
    assert "in wait_for_godot" in seen.where
    assert "activation.py" not in seen.where
    assert _ends(int(pid.read_text()))


def test_a_plugin_that_raises_is_shown_with_its_frames_alone(started):
    seen = started("print('on the way')\nraise LookupError('gone')\n")
    assert (seen.outcome, seen.reason) == ("failed", "LookupError: gone")
    assert "acme_world" in seen.where
    assert "LookupError: gone" in seen.where
    assert "importlib" not in seen.where
    assert seen.printed == "on the way"


def test_a_plugin_that_ends_the_process_costs_nobody_else(started):
    seen = started("import os; os.abort()\n")
    assert seen.outcome == "died"
    assert "SIGABRT" in seen.reason
    assert "acme_world" in seen.where


def test_what_a_plugin_imports_is_counted_and_what_it_prints_is_kept(started):
    seen = started(
        "import sys, os, _pytest.pytester; print('out'); print('err', file=sys.stderr); os.write(2, b'raw')\n"
    )
    assert seen.outcome == "started"
    assert seen.imported["_pytest"] > 10
    assert "acme_world" not in seen.imported
    assert {"out", "err", "raw"} <= set(seen.printed.replace("raw", "raw ").split())


def test_packages_of_many_modules_are_heavy_the_largest_first():
    seen = Startup("started", imported={"small": 49, "large": 50, "larger": 400})
    assert list(seen.heavy.items()) == [("larger", 400), ("large", 50)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_each_change_of_global_state_is_noticed_by_its_name():
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(CHANGES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: [name] for name in CHANGES}


def _ends(pid: int) -> bool:
    """Whether a process is gone, at once or soon."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":  # gone, and nobody has asked for its exit code
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False
