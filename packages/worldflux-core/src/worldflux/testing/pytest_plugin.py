"""What the kit does inside pytest. ``pytest_worldflux``, which pytest loads, calls this when the kit is used."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from worldflux.core.errors import WorldFluxError

from .checks import all_checks
from .conformance import BoundCheck
from .runner import expectations, subjects
from .subject import Subject


def parametrize(metafunc: pytest.Metafunc, asked: str | None) -> None:
    """Give a test every check of the family that its class names, or else of those asked for on the command line."""
    named: str | None = getattr(metafunc.cls, "family_id", None)
    about = {name: getattr(metafunc.cls, name) for name in ("options", "without") if hasattr(metafunc.cls, name)}
    try:
        if named is not None:
            found, expected = [Subject(named, **about)], expectations(metafunc.cls.expected_failures)
        elif asked:
            found, expected = subjects(asked), {}
        else:
            raise pytest.UsageError("which family? class TestMine: family_id = 'mine', or --worldflux-family=mine")
    except WorldFluxError as error:
        raise pytest.UsageError(str(error)) from error
    checks = [BoundCheck(check, subject, expected.get(check.name)) for subject in found for check in all_checks()]
    ids = [bound.check.name if named else f"{bound.subject.name}-{bound.check.name}" for bound in checks]
    metafunc.parametrize("worldflux_check", checks, ids=ids)


def summarize(terminal: Any, reports: Iterable[pytest.TestReport]) -> None:
    """Say for each family how much of what the kit can look at it declares, and what was skipped and why."""
    skipped: dict[str, dict[str, list[str]]] = {}
    for report in reports:
        facts = dict(report.user_properties)
        reasons = skipped.setdefault(str(facts["worldflux_family"]), {})
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            reasons.setdefault(reason, []).append(str(facts["worldflux_check"]))
    optional = frozenset().union(*(check.requires for check in all_checks()))
    terminal.section("worldflux conformance")
    for family, reasons in skipped.items():
        terminal.write_line(summary_line(family, optional, reasons))


def summary_line(family: str, optional: frozenset[str], skipped: dict[str, list[str]]) -> str:
    """Such as "mine: declares 3 of 6 optional capabilities; skipped: check_x (not declared: policy)"."""
    try:
        subject = subjects(family)[0]
        declared = f"declares {len(optional & subject.capabilities)} of {len(optional)} optional capabilities"
    except (WorldFluxError, AssertionError):  # a rejected plugin: what it declares cannot be read
        declared = "is not accepted"
    what = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in skipped.items())
    return f"{family}: {declared}; skipped: {what or 'nothing'}"
