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
LISTINGS = [
    ["--help"],
    ["--version"],
    ["models", "list"],
    ["models", "info", "dreamer:ci", "--no-options"],
    ["plugins", "list"],
]
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
    "argv", [["models", "list"], ["plugins", "list"], ["models", "info", "dreamer:ci", "--no-options"]], ids=" ".join
)
def test_listing_speaks_json(argv, fresh_python):
    result = fresh_python("-m", "worldflux.cli", *argv, "--json")
    assert result.returncode == 0, result.stderr
    assert "dreamer" in json.dumps(json.loads(result.stdout))


MODULES = "import argparse, asyncio, email.message, http.client, pydoc, unittest.mock, xml.dom.minidom, zipfile"
MANIFEST = """
manifest_version = 1
name = "{name}-world"
plugin_api_version = "1.0"
worldflux_version_range = ">=0.1,<0.2"
capabilities = ["models"]
[[models]]
id = "{name}"
"""
PRESET = """
[models.presets.{key}]
description = "A toy"
params = "~1M"
default_obs = "vector"
maturity = "reference"
config = {{ width = 8, depth = 2 }}
"""


def cost_in_handfuls(run, listing, **env):
    """Processor time of a listing as a multiple of what a handful of standard modules take, both over bare Python.

    Milliseconds would measure the machine, and wall time what else it is doing.
    """
    resource = pytest.importorskip("resource", reason="processor time of child processes is a POSIX notion")

    def cpu_seconds(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run(*command, **env).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    rounds = [[cpu_seconds("-c", "pass"), cpu_seconds("-c", MODULES), cpu_seconds(*listing)] for _ in range(7)]
    start, reference, cost = map(min, zip(*rounds))
    return (cost - start) / (reference - start)


@pytest.mark.timing
@pytest.mark.parametrize("argv", [None, ["--help"], ["models", "list"], ["plugins", "list"]], ids=str)
def test_listing_costs_little_more_than_a_handful_of_standard_modules(argv, fresh_python):
    """At most 2.3 times as much: 200 ms where these modules take 86."""
    listing = ["-c", "import worldflux"] if argv is None else ["-m", "worldflux.cli", *argv]
    assert cost_in_handfuls(fresh_python, listing) < 2.3


@pytest.mark.timing
def test_two_hundred_plugins_are_listed_at_twice_the_cost(fresh_python, tmp_path):
    """At most 4.6 times as much as the handful: 400 ms where these modules take 86."""
    for n in range(200):
        name = "toy" + "".join(chr(ord("a") + int(digit)) for digit in f"{n:04d}")
        package, info = tmp_path / f"{name}_world", tmp_path / f"{name}_world-1.0.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").write_text("")
        sizes = "".join(PRESET.format(key=key) for key in ("ci", "small", "large"))
        (package / "worldflux.toml").write_text(MANIFEST.format(name=name) + sizes)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-world\nVersion: 1.0\n\n" + "Words\n" * 200)
        (info / "entry_points.txt").write_text(f"[worldflux.models]\n{name} = {name}_world.plugin\n")
    listing = ["-m", "worldflux.cli", "models", "list", "--json"]
    assert "toyabjj:ci" in fresh_python(*listing, PYTHONPATH=str(tmp_path)).stdout
    assert cost_in_handfuls(fresh_python, listing, PYTHONPATH=str(tmp_path)) < 4.6
