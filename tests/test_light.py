"""Listing is light: no torch, no plugin code, little time. Runs with or without torch installed."""

from __future__ import annotations

import json

import pytest

QUESTIONS = {
    "import": "import worldflux",
    "list_models": "import worldflux; assert 'dreamer:ci' in worldflux.list_models()",
    "verbose": "import worldflux; assert worldflux.list_models(verbose=True, surface='all')['dreamer:ci']['params']",
    "get_model_info": "import worldflux; assert worldflux.get_model_info('dreamer')['model_id'] == 'dreamerv3:size12m'",
    "dir": "import worldflux; assert 'create_world_model' in dir(worldflux)",
}
LISTINGS = [["--help"], ["--version"], ["models", "list"], ["models", "info", "dreamer:ci"], ["plugins", "list"]]
PROBE = """
import sys
sys.argv = ["worldflux", *{argv!r}]
from worldflux.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
finally:
    heavy = {{"torch", "numpy", "gymnasium", "worldflux_dreamer", "worldflux_tdmpc"}} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.parametrize("question", QUESTIONS)
def test_asking_loads_no_torch_and_no_plugin(question, fresh_python):
    check = "\nimport sys\nheavy = {'torch', 'numpy', 'worldflux_dreamer', 'worldflux_tdmpc'} & set(sys.modules)"
    check += "\nassert not heavy, heavy"
    result = fresh_python("-c", QUESTIONS[question] + check)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("argv", LISTINGS, ids=" ".join)
def test_listing_on_the_command_line_loads_no_torch_and_no_plugin(argv, fresh_python):
    result = fresh_python("-c", PROBE.format(argv=argv))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.parametrize(
    "argv", [["models", "list"], ["plugins", "list"], ["models", "info", "dreamer:ci"]], ids=" ".join
)
def test_listing_speaks_json(argv, fresh_python):
    result = fresh_python("-m", "worldflux.cli", *argv, "--json")
    assert result.returncode == 0, result.stderr
    assert "dreamer" in json.dumps(json.loads(result.stdout))


@pytest.mark.timing
@pytest.mark.parametrize("argv", [None, ["--help"], ["models", "list"], ["plugins", "list"]], ids=str)
def test_listing_costs_little_more_than_a_handful_of_standard_modules(argv, fresh_python):
    """At most 2.3 times as much: 200 ms where these modules take 86. Milliseconds would measure the machine."""
    resource = pytest.importorskip("resource", reason="processor time of child processes is a POSIX notion")
    listing = ["-c", "import worldflux"] if argv is None else ["-m", "worldflux.cli", *argv]
    modules = [
        "-c",
        "import argparse, asyncio, email.message, http.client, pydoc, unittest.mock, xml.dom.minidom, zipfile",
    ]
    nothing = ["-c", "pass"]

    def cpu_seconds(command: list[str]) -> float:
        """Processor time: wall time would also measure what else the machine is doing."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert fresh_python(*command).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    rounds = [[cpu_seconds(command) for command in (nothing, modules, listing)] for _ in range(7)]
    start, reference, cost = map(min, zip(*rounds))
    assert cost - start < 2.3 * (reference - start)
