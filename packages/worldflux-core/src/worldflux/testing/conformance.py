"""The kit in a test file: ``class TestMine(FamilyConformance): family_id = "mine"``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .check import Check, CheckFailed
from .results import CheckResult
from .runner import run
from .subject import Subject


class FamilyConformance:
    """Subclass it as ``Test…``: one test for each check of the kit.

    ``family_id`` is the family, or one of its presets (of a family the smallest is used); ``options`` go to
    ``create_world_model``, and ``without`` names the capabilities that a model built with them has not;
    ``expected_failures`` maps names of checks to the reason why the family fails them for
    now, and to pass one of those is a failure.
    """

    family_id: ClassVar[str | None] = None
    options: ClassVar[Mapping[str, Any] | None] = None
    without: ClassVar[Collection[str]] = ()
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "test_conforms" in vars(cls):
            raise TypeError(
                f"{cls.__name__} replaces test_conforms, and with it every check; name the checks that cannot pass "
                "yet in expected_failures, each with its reason"
            )

    def test_conforms(self, worldflux_check: BoundCheck, record_property: Callable[[str, object], None]) -> None:
        """One check of the kit."""
        for name, value in worldflux_check.properties().items():
            record_property(name, value)
        worldflux_check()


@dataclass(frozen=True)
class BoundCheck:
    """A check, the family it is run on, and why it is expected to fail if it is."""

    check: Check
    subject: Subject
    expected: str | None = None

    def run(self) -> CheckResult:
        """Run it; see ``runner.run``."""
        return run(self.check, self.subject, expected=self.expected)

    def properties(self) -> dict[str, str]:
        """What pytest's summary is made of; travels with the report, so it works across processes."""
        return {"worldflux_family": self.subject.name, "worldflux_check": self.check.name}

    def __call__(self) -> None:
        """Run it, and tell pytest what came of it."""
        import pytest

        __tracebackhide__ = True
        result = self.run()
        if result.outcome == "skipped":
            pytest.skip(result.message)
        if result.outcome == "expected":
            pytest.xfail(result.message)
        if result.outcome == "failed":
            if (first := self.subject.causes.setdefault(result.message, self.check.name)) != self.check.name:
                pytest.fail(f"{self.check.rule}\nIt fails of the same as {first}, which shows where", pytrace=False)
            if result.error is None or isinstance(result.error, CheckFailed):
                pytest.fail(f"{self.check.rule}\n{result.message}", pytrace=False)
            raise result.error
