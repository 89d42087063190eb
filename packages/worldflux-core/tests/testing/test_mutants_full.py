"""Each check that needs a model catches its mutants, and no other check does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from worldflux.testing.checks import all_checks
from worldflux.testing.runner import run, subjects

torch = pytest.importorskip("torch", reason="these checks need models")
pytest_plugins = "pytester"
TEST_FILE = """
from worldflux.testing import FamilyConformance

class TestMutant(FamilyConformance):
    family_id = "base-family"
    options = {options!r}
"""
# hypothesis would be imported at the end of every run
QUICK = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--assert=plain")


def table(name: str):
    spec = importlib.util.spec_from_file_location(f"worldflux_kit_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TABLES = [table(name) for name in ("mutants_full", "mutants_doors")]
VARIANTS = TABLES[0].make.VARIANTS
CHECKS = [check for check in all_checks() if check.level == "full"]


@pytest.fixture
def failing(make_plugin_dist):
    """Installs a family made from the base one and returns the checks that fail, each with its message."""

    def check(mutant) -> dict[str, str]:
        make_plugin_dist("base-family", **mutant.package())
        (subject,) = subjects("base-family", options=mutant.options)
        results = [run(check, subject) for check in CHECKS]
        return {result.check: result.message for result in results if result.outcome == "failed"}

    return check


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_family_without_a_defect_passes(variant, make_plugin_dist, pytester):
    """Through pytest, as an author runs it."""
    make_plugin_dist("base-family", **VARIANTS[variant].package())
    pytester.makepyfile(TEST_FILE.format(options=VARIANTS[variant].options))
    ran = pytester.inline_run(*QUICK, "-k", " or ".join(check.name for check in CHECKS))
    passed, skipped, failed = ran.listoutcomes()
    assert len(passed) + len(skipped) == len(CHECKS), failed


@pytest.mark.parametrize(
    ("name", "mutant"),
    [pytest.param(name, one, id=name) for table in TABLES for name, many in table.MUTANTS.items() for one in many],
)
def test_a_check_alone_catches_its_mutant(name, mutant, failing):
    failed = failing(mutant)
    assert list(failed) == [name], failed
