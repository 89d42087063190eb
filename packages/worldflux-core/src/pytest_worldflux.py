"""The conformance kit of WorldFlux in pytest: an option, and fixtures for tests of plugins.

Every pytest run of an environment with worldflux-core loads this module, so it stands outside the package and
imports nothing of it: other test runs pay for one small file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from worldflux.core.batch import Batch
    from worldflux.plugins import Kernel


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("worldflux").addoption(
        "--worldflux-family",
        metavar="ID",
        help="hold this family (or preset, or distribution, or all) to the conformance kit of worldflux",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--worldflux-family") and config.args_source is not config.ArgsSource.ARGS:
        suite = Path(__file__).parent / "worldflux" / "testing" / "suite.py"
        config.args[:] = [str(suite)]  # no tests were named: the kit is what is meant


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "worldflux_check" in metafunc.fixturenames:
        from worldflux.testing.pytest_plugin import parametrize

        parametrize(metafunc, metafunc.config.getoption("--worldflux-family"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        report
        for category in ("passed", "failed", "skipped", "xfailed")
        for report in terminalreporter.stats.get(category, ())
        if any(name == "worldflux_check" for name, _ in getattr(report, "user_properties", ()))
    ]
    if reports:
        from worldflux.testing.pytest_plugin import summarize

        summarize(terminalreporter, reports)


@pytest.fixture
def worldflux_kernel() -> Iterator[Kernel]:
    """The kernel, with every installed plugin blocked; what the test made is gone afterwards."""
    from worldflux.testing.fixtures import isolated_kernel

    with isolated_kernel() as kernel:
        yield kernel


@pytest.fixture
def make_plugin_dist(worldflux_kernel: Kernel, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A function that installs a plugin for the test: ``make_plugin_dist("acme-world", code=..., manifest=...)``."""
    from worldflux.testing.fixtures import plugin_site

    with plugin_site(tmp_path / "site", worldflux_kernel) as make:
        yield make


@pytest.fixture
def tiny_batch() -> Callable[..., Batch]:
    """A function that gives a small valid batch for a model: ``tiny_batch(model, batch_size=2, seq_len=5)``."""
    from worldflux.testing.fixtures import tiny_batch

    return tiny_batch
