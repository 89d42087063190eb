"""``worldflux plugins check`` and ``doctor``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from worldflux.cli import main
from worldflux.testing import fixtures


@pytest.fixture
def worldflux(capsys, make_plugin_dist, monkeypatch):
    """Runs the command, and returns its exit code, what it printed and what it said on stderr."""
    monkeypatch.delenv("WORLDFLUX_DEBUG", raising=False)

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(argv)
        return (stop.value.code or 0, *capsys.readouterr())

    return run


def test_a_family_in_order_is_a_table_and_exit_0(worldflux, make_plugin_dist):
    make_plugin_dist("acme-world")
    code, out, _ = worldflux("plugins", "check", "acme-world", "--static")
    head, columns, first, *_ = out.splitlines()
    assert code == 0
    assert head.startswith("acme-world (acme-world 1.0): ")
    assert columns.split() == ["CHECK", "OUTCOME", "MESSAGE"]
    assert first.split() == ["check_manifest_is_valid", "passed"]


def test_a_failed_check_says_what_to_do_and_exits_1(worldflux, make_plugin_dist):
    make_plugin_dist("acme-world", files={"LICENSE": None})
    code, out, _ = worldflux("plugins", "check", "acme-world", "--static")
    (line,) = [line for line in out.splitlines() if line.startswith("check_has_a_licence")]
    assert code == 1
    assert line.split()[1] == "failed"
    assert "license-files" in line


def test_json_has_every_result_and_is_all_there_is_on_stdout(worldflux, make_plugin_dist):
    make_plugin_dist("acme-world", files={"LICENSE": None})
    code, out, _ = worldflux("plugins", "check", "acme-world", "--static", "--json")
    (family,) = json.loads(out)
    outcomes = {result["check"]: result["outcome"] for result in family["results"]}
    assert code == 1
    assert (family["family"], family["level"]) == ("acme-world", "static")
    assert outcomes["check_has_a_licence"] == "failed"


@pytest.mark.parametrize(
    ("argv", "near"),
    [(["nowhere", "--static"], "no plugin provides"), (["acme-world", "--static", "--imports"], "exclude each other")],
)
def test_a_mistake_in_the_call_is_exit_2(worldflux, make_plugin_dist, argv, near):
    make_plugin_dist("acme-world")
    code, out, err = worldflux("plugins", "check", *argv)
    assert (code, out) == (2, "")
    assert near in err


def test_doctor_says_of_each_plugin_what_it_did(worldflux, make_plugin_dist):
    pytest.importorskip("torch")
    noisy = "print('good morning')\nimport random; random.seed(0)\n"
    make_plugin_dist("acme-world", code=noisy + fixtures.CODE.format(id="acme-world"))
    make_plugin_dist("bold-world", code="raise LookupError('gone')\n")
    make_plugin_dist("cool-world", manifest="nothing = 1\n")
    code, out, _ = worldflux("plugins", "doctor", "--json")
    seen = {plugin["name"]: plugin for plugin in json.loads(out)}
    assert code == 1
    assert seen["acme-world"]["outcome"] == "started"
    assert seen["acme-world"]["printed"] == "good morning"
    assert list(seen["acme-world"]["changed"]) == ["random's generator"]
    assert (seen["bold-world"]["outcome"], seen["bold-world"]["reason"]) == ("failed", "LookupError: gone")
    assert seen["cool-world"]["outcome"] == "rejected"


def test_doctor_stops_a_plugin_that_hangs_and_shows_where(worldflux, make_plugin_dist):
    pytest.importorskip("torch")
    make_plugin_dist("acme-world", code="import time\ndef godot():\n    time.sleep(99)\ngodot()\n")
    code, out, _ = worldflux("plugins", "doctor", "--timeout", "0.5")
    assert code == 1
    assert "hung" in out
    assert "in godot" in out


def test_doctor_is_content_with_plugins_that_are_blocked(worldflux, worldflux_kernel):
    code, _, _ = worldflux("plugins", "doctor")
    assert code == 0


def test_checking_needs_no_pytest_and_without_building_no_torch(make_plugin_dist, tmp_path):
    make_plugin_dist("acme-world")
    program = (
        "import sys; sys.modules.update(pytest=None, torch=None, _pytest=None)\n"
        "from worldflux.cli import main; main(['plugins', 'check', 'acme-world', '--static'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_check_can_be_made_without_pytest():
    pytest.importorskip("torch")
    program = (
        "import sys; sys.modules.update(pytest=None, _pytest=None)\n"
        "from worldflux.testing import all_checks, run_checks; assert len(all_checks()) > 20"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["check", "doctor"])
def test_help_has_an_example(worldflux, verb):
    code, out, _ = worldflux("plugins", verb, "--help")
    assert code == 0
    assert f"worldflux plugins {verb} " in out
