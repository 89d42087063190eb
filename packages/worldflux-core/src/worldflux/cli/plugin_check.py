"""``worldflux plugins check`` and ``doctor``: a plugin held to the kit's rules, and watched while it starts."""

from __future__ import annotations

import collections
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import PROBLEM, JsonOption, apart, emit, live, table

if TYPE_CHECKING:
    from worldflux.plugins.discovery import Plugin
    from worldflux.testing.check import Level
    from worldflux.testing.results import CheckResult

SAME = 2  # checks may say the same; where more do, it is said once


def check(
    id: Annotated[str, typer.Argument(help="A family, preset or alias, a plugin's distribution, or all.")],
    static: Annotated[bool, typer.Option("--static", help="Only look: nothing of the plugin runs.")] = False,
    imports: Annotated[bool, typer.Option("--imports", help="Also start it, in a process of its own.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Also build and train small models (the default).")] = False,
    json: JsonOption = False,
) -> None:
    """Hold a plugin to the rules that every family keeps.

    Exits with 1 if a check failed.

    \b
    Examples:
      worldflux plugins check dreamer
      worldflux plugins check my-world --imports --json
    """
    from worldflux.core.errors import ConfigurationError
    from worldflux.testing.checks import all_checks
    from worldflux.testing.results import summary
    from worldflux.testing.runner import subjects

    if static + imports + full > 1:
        raise ConfigurationError("--static, --imports and --full exclude each other: each includes the one before")
    level: Level = "static" if static else "imports" if imports else "full"
    data, parts, results = [], [], []
    for subject in subjects(id):
        with apart():
            found = _run(subject, all_checks(level))
        results += found
        data.append(
            {
                "family": subject.name,
                "plugin": subject.plugin.name,
                "version": subject.plugin.version,
                "level": level,
                "results": [result.to_dict() for result in found],
            }
        )
        parts.append(f"{subject.name} ({subject.plugin.label}): {summary(found)}\n{_table(found)}")
    emit(data, "\n\n".join(parts), as_json=json)
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(PROBLEM)


def doctor(
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a plugin has to start.")] = 30.0,
    json: JsonOption = False,
) -> None:
    """Start each plugin in a process of its own, and say what it did there.

    One that hangs is stopped after --timeout seconds, and is shown with the line where it hangs. Exits with 1 if a
    plugin is rejected or does not start.

    \b
    Example:
      worldflux plugins doctor --timeout 60
    """
    from worldflux.plugins import get_kernel

    data: list[dict[str, Any]] = []
    for plugin in get_kernel().plugins:
        live(f"starting {plugin.name}")
        data.append({"name": plugin.name, "version": plugin.version, **_observed(plugin, timeout)})
    live("")
    emit(data, _report(data), as_json=json)
    if any(plugin["outcome"] not in ("started", "blocked") for plugin in data):
        raise typer.Exit(PROBLEM)


def _run(subject: Any, checks: list[Any]) -> list[CheckResult]:
    from worldflux.testing.runner import run

    found = []
    for number, one in enumerate(checks, 1):
        live(f"{subject.name}: {one.name} ({number} of {len(checks)})")
        found.append(run(one, subject))
    live("")
    return found


def _table(results: list[CheckResult]) -> str:
    """One line a check; further lines of a message follow below it. What many checks say is said once."""
    rows, lines, said = [], {}, collections.Counter((result.outcome, result.message) for result in results)
    shared: dict[tuple[str, str], list[str]] = {}
    for result in results:
        what = result.outcome, result.message
        if result.message and said[what] > SAME:
            shared.setdefault(what, []).append(result.check)
            if len(shared[what]) > 1:
                continue
        first, _, rest = result.message.partition("\n")
        rows.append((result.check, result.outcome, first))
        lines[len(rows) + 1] = rest
    text = table(("CHECK", "OUTCOME", "MESSAGE"), rows).splitlines()
    return "\n".join(
        line + (f"\n{textwrap.indent(lines[number], '    ')}" if lines.get(number) else "")
        for number, line in enumerate(text, 1)
    ) + "".join(f"\n{_same(outcome, checks)}" for (outcome, _), checks in shared.items())


def _same(outcome: str, checks: list[str]) -> str:
    """Name the checks that say the same as the first."""
    first, *others = checks
    return textwrap.fill(
        f"{len(others)} more {outcome}, for the same reason as {first}: {', '.join(others)}",
        width=120, initial_indent="… ", subsequent_indent="  ", break_on_hyphens=False,
    )  # fmt: skip


def _observed(plugin: Plugin, timeout: float) -> dict[str, Any]:
    from worldflux.testing.startup import observe

    if plugin.state in ("rejected", "blocked"):
        return {"outcome": plugin.state, "seconds": None, "reason": plugin.reason}
    return observe(plugin, timeout=timeout).to_dict()


def _report(data: list[dict[str, Any]]) -> str:
    if not data:
        return "No plugin is installed. For DreamerV3: pip install worldflux-dreamer"
    rows = []
    for plugin in data:
        seconds = "" if plugin["seconds"] is None else f"{plugin['seconds']:.2f} s"
        rows.append((plugin["name"], plugin["version"], plugin["outcome"], seconds, _saw(plugin)))
    parts = [table(("PLUGIN", "VERSION", "OUTCOME", "TIME", "WHAT IT DID"), rows)]
    for plugin in data:
        for title, key in (("where", "where"), ("printed", "printed")):
            if plugin.get(key):
                parts.append(f"{plugin['name']} {title}:\n{textwrap.indent(plugin[key], '  ')}")
    return "\n\n".join(parts)


def _saw(plugin: dict[str, Any]) -> str:
    """What a plugin did, in a line."""
    found = [plugin["reason"]]
    if plugin.get("heavy"):
        found.append("imported " + ", ".join(f"{name} ({count} modules)" for name, count in plugin["heavy"].items()))
    if plugin.get("families"):
        found.append(f"imported the other plugin's {', '.join(plugin['families'])}")
    if plugin.get("changed"):
        found.append(f"changed {', '.join(plugin['changed'])}")
    if plugin.get("printed"):
        found.append("printed something")
    return "; ".join(filter(None, found)) or "nothing to mention"
