"""Running checks: which apply to a family, and what came of each. Needs no pytest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from worldflux.core.errors import ConfigurationError, PluginError, did_you_mean
from worldflux.plugins import get_kernel
from worldflux.strangers.distributions import canonical
from worldflux.strangers.text import say

from .check import LEVELS, Check, CheckFailed, CheckSkipped, Level
from .checks import all_checks
from .results import CheckResult
from .subject import Subject


def run_checks(
    name: str,
    *,
    level: Level = "full",
    options: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[CheckResult]:
    """Hold one family to the rules and return what came of each check, in order.

    ``name`` is a family, preset, alias, or a distribution that brings one family. ``level`` is "static" (nothing of
    the plugin runs), "imports" (it is started, in a process of its own) or "full"; each includes the ones before.
    ``options`` go to ``create_world_model``. ``expected_failures`` maps names of checks to the reason why they fail
    for now; one that passes nevertheless counts as failed.

    Raises:
        ConfigurationError: no such family, level or check; or a distribution that brings several families.
    """
    if level not in LEVELS:
        raise ConfigurationError(f"unknown level {level!r}, expected one of {list(LEVELS)}")
    expected = expectations(expected_failures)
    found = subjects(name, options=options)
    if len(found) != 1:
        raise ConfigurationError(f"{name!r} is several families, name one of {[subject.name for subject in found]}")
    return [run(check, found[0], expected=expected.get(check.name)) for check in all_checks(level)]


def subjects(name: str, *, options: Mapping[str, Any] | None = None) -> list[Subject]:
    """The families that ``name`` means: one, those of a distribution, or with "all" those of every plugin.

    A plugin without families stands for itself: it has a manifest to look at, and it can be started. "all" leaves out
    the plugins that the user blocks.
    """
    plugins = get_kernel().plugins
    if name == "all":
        wanted = [plugin for plugin in plugins if plugin.state != "blocked"]
        if not wanted:
            raise ConfigurationError("no plugin can be used; for DreamerV3: pip install worldflux-dreamer")
    else:
        wanted = [plugin for plugin in plugins if canonical(plugin.name) == canonical(name)]
        if not wanted:
            return [Subject(name, options=options)]
    found = []
    for plugin in wanted:
        names = [model.id for model in plugin.manifest.models] if plugin.manifest else []
        names = names or sorted(name for kind, name in plugin.ids if kind == "models")[:1] or [plugin.name]
        found += [Subject(name, options=options, plugin=plugin) for name in names]
    return found


def expectations(expected_failures: Mapping[str, str] | None) -> dict[str, str]:
    """Checked: every name is a check, every reason says something. Raises ConfigurationError."""
    if not expected_failures:
        return {}
    known = [check.name for check in all_checks()]
    for name, reason in expected_failures.items():
        if name not in known:
            raise ConfigurationError(f"expected_failures names {name!r}, which is no check.{did_you_mean(name, known)}")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigurationError(f"expected_failures[{name!r}] needs a reason, got {reason!r}")
    return dict(expected_failures)


def run(check: Check, subject: Subject, *, expected: str | None = None) -> CheckResult:
    """Run one check on one family; ``expected`` is the reason why it should fail, if it should. Never raises."""
    started = time.perf_counter()
    error: BaseException | None = None
    try:
        reason = _not_applicable(check, subject)
        if reason is None:
            check.run(subject)
    except CheckSkipped as skipped:
        reason = str(skipped)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # sys.exit() in a family must not end the run
        error, reason = raised, None
    seconds = time.perf_counter() - started
    if reason is not None:
        return CheckResult(check.name, "skipped", reason, seconds)
    if error is None and expected is None:
        return CheckResult(check.name, "passed", "", seconds)
    if error is None:
        message = f"expected to fail because {expected}, but passes: take it out of expected_failures"
        return CheckResult(check.name, "failed", message, seconds)
    if expected is not None:
        return CheckResult(check.name, "expected", f"{expected} ({_say(error)})", seconds, error)
    return CheckResult(check.name, "failed", _say(error), seconds, error)


def _not_applicable(check: Check, subject: Subject) -> str | None:
    """Why a family is not held to a rule, or None."""
    plugin = subject.plugin
    if check.level != "static" and plugin.state in ("rejected", "blocked"):
        return plugin.problem
    if plugin.manifest is not None and _number(check.since) > _number(plugin.manifest.plugin_api_version):
        return f"a rule since API {check.since}, the plugin is written for {plugin.manifest.plugin_api_version}"
    if check.level != "full":
        return None
    if ("models", subject.name.partition(":")[0]) not in plugin.ids and ("models", subject.name) not in plugin.ids:
        return f"{plugin.name} brings no family"
    try:
        get_kernel().activate(plugin)
    except PluginError as error:
        return str(error)
    lacking = sorted(check.requires - subject.capabilities)
    return f"not declared: {', '.join(lacking)}" if lacking else None


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _say(error: BaseException) -> str:
    return str(error) if isinstance(error, CheckFailed) else say(error, most=None)
