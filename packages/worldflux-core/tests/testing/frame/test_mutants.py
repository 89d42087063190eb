"""Each static and import check catches its mutant, through pytest as an author runs it, and no other check does."""

from __future__ import annotations

import warnings

import pytest

from worldflux.testing import fixtures
from worldflux.testing.checks import all_checks

pytest.importorskip("torch", reason="the kit in pytest knows every check, and some need torch")
pytest_plugins = "pytester"
TEST_FILE = """
from worldflux.testing import FamilyConformance

class TestMutant(FamilyConformance):
    family_id = "mutant-world"
"""
LEVEL = {check.name: check.level for check in all_checks("imports")}


@pytest.fixture
def failing(pytester, make_plugin_dist, beside, worldflux_kernel, monkeypatch):
    """Installs a mutant and returns the checks up to a level that fail."""
    table = beside("mutants_static")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # other plugins cost seconds, and have no say

    def run(mutant, level: str) -> set[str]:
        accepted = fixtures.kernel_range(worldflux_kernel.version)
        make_plugin_dist(table.NEIGHBOUR)
        manifest = fixtures.MANIFEST.format(name=table.NAME, id=table.NAME, range=accepted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the kernel warns of a shadowing alias; here the check is meant
            make_plugin_dist(table.NAME, **mutant.arguments(manifest, fixtures.CODE.format(id=table.NAME)))
        pytester.makepyfile(TEST_FILE)
        names = [check.name for check in all_checks(level)]
        ran = pytester.inline_run("-p", "pytest_worldflux", "-k", " or ".join(names))
        passed, skipped, failed = ran.listoutcomes()
        assert len(passed) + len(skipped) + len(failed) == len(names)
        return {report.nodeid.partition("[")[2].rstrip("]") for report in failed}

    return run


def test_the_plugin_without_a_defect_passes(failing, beside):
    assert failing(beside("mutants_static").Mutant(), "imports") == set()


def test_a_plugin_with_a_format_passes_if_it_registers_it(failing, beside):
    table = beside("mutants_static")
    mutant = table.Mutant(manifest=table.WITH_A_FORMAT, code=table.adds(table.REGISTERS), api="1.1")
    assert failing(mutant, "imports") == set()


def test_a_plugin_that_does_not_register_a_format_it_declares_is_caught(failing, beside):
    table = beside("mutants_static")
    mutant = table.Mutant(manifest=table.WITH_A_FORMAT, api="1.1")
    assert failing(mutant, "imports") == {"check_starts_and_registers_what_it_declares"}


@pytest.mark.parametrize("name", [name for name, level in LEVEL.items() if level == "static"])
def test_a_static_check_alone_catches_its_mutant(name, failing, beside):
    # up to "static": what such a mutant runs is, byte for byte, the code that passes above
    assert failing(beside("mutants_static").MUTANTS[name], "static") == {name}


@pytest.mark.parametrize("name", [name for name, level in LEVEL.items() if level == "imports"])
def test_an_import_check_alone_catches_its_mutant(name, failing, beside):
    assert failing(beside("mutants_static").MUTANTS[name], "imports") == {name}
