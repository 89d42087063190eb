"""The kit as an author meets it: in a test file, or on pytest's command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worldflux.testing import FamilyConformance, all_checks

pytest_plugins = "pytester"
TEST_FILE = """
from worldflux.testing import FamilyConformance

class TestAcme(FamilyConformance):
    family_id = {family!r}
    expected_failures = {expected!r}
"""
ONE = "check_has_a_licence"  # runs quickly, and the plugin can be made to fail it


@pytest.fixture
def kit(pytester, make_plugin_dist, monkeypatch):
    """Runs pytest with one check on the plugin acme-world, which fails it on demand."""
    pytest.importorskip("torch", reason="the kit in pytest knows every check, and some need torch")
    import worldflux.testing.pytest_plugin  # noqa: F401 - so that every inner run finds torch and the checks loaded

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*args, fails=False, expected=None, family="acme-world", only=ONE):
        make_plugin_dist("acme-world", files={"LICENSE": None} if fails else None)
        if not args:
            pytester.makepyfile(TEST_FILE.format(family=family, expected=expected or {}))
        return pytester.runpytest_inprocess("-p", "pytest_worldflux", "-k", only, *args)

    return run


def test_three_lines_are_one_test_a_check(kit):
    outcomes = kit().parseoutcomes()
    assert outcomes.pop("deselected") == len(all_checks()) - 1
    assert outcomes == {"passed": 1}


def test_a_failure_is_the_rule_and_what_is_wrong_without_a_traceback(kit):
    result = kit(fails=True)
    result.stdout.fnmatch_lines(["*carries the text of its licence.", "no LICENSE is installed; put one beside*"])
    result.stdout.no_fnmatch_line("*static.py*")


def test_a_failure_that_is_expected_is_an_xfail(kit):
    assert kit(fails=True, expected={ONE: "issue 12"}).parseoutcomes()["xfailed"] == 1


def test_a_failure_that_is_expected_and_stays_away_fails(kit):
    result = kit(expected={ONE: "issue 12"})
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*expected to fail because issue 12, but passes*"])


def test_the_summary_counts_capabilities_and_gives_the_reasons_of_what_was_skipped(kit):
    result = kit(only="check_is_accepted or check_has_a_licence or check_policy")
    result.stdout.fnmatch_lines(["acme-world: declares 0 of * optional capabilities; skipped: *not declared: policy)*"])


@pytest.mark.parametrize("asked", ["acme-world", "all"])
def test_a_family_is_checked_without_a_test_file(kit, asked):
    result = kit(f"--worldflux-family={asked}")
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["acme-world: declares *"])


def test_the_suite_can_be_named_as_a_module(kit):
    result = kit("--pyargs", "worldflux.testing.suite", "--worldflux-family=acme-world")
    assert result.parseoutcomes()["passed"] == 1


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ({"family": "acme-word"}, "no plugin provides the family 'acme-word'"),
        ({"family": None}, "which family?"),
        ({"expected": {"check_nothing": "issue 12"}}, "names 'check_nothing', which is no check"),
    ],
)
def test_a_mistake_in_the_test_file_is_one_sentence(kit, arguments, near):
    result = kit(**arguments)
    assert result.ret != 0
    assert near in result.stdout.str() + result.stderr.str()


def test_the_checks_cannot_be_replaced():
    with pytest.raises(TypeError, match="expected_failures"):

        class TestMine(FamilyConformance):
            def test_conforms(self):
                """Nothing to see here."""


LIGHT = """
import sys, pytest
code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:], "test_other.py"])
sys.stdout.flush()
print("\\nLOADED", *sorted(sys.modules))
sys.exit(code)
"""


def test_a_run_that_does_not_use_the_kit_loads_one_module_of_it_and_nothing_else(tmp_path):
    (tmp_path / "test_other.py").write_text("def test_it():\n    pass\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

    def modules(*args: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", LIGHT, *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return set(done.stdout.rpartition("LOADED")[2].split())

    assert modules("-p", "pytest_worldflux") - modules() == {"pytest_worldflux"}


def test_pytest_finds_the_kit_by_itself():
    from importlib import metadata

    (found,) = [ep for ep in metadata.distribution("worldflux-core").entry_points if ep.group == "pytest11"]
    assert (found.name, found.value) == ("worldflux", "pytest_worldflux")
