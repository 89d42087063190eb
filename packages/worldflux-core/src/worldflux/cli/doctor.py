"""``worldflux doctor``: what is installed, and what is not right."""

from __future__ import annotations

import platform
import sys
from typing import Any

import typer

from .light import Command
from .output import PROBLEM, JsonOption, apart, emit, fields, table

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(cls=Command)
def doctor(json: JsonOption = False) -> None:
    """Check the installation: versions, devices, optional packages, and that every plugin starts.

    Exits with 1 if something is not right.

    \b
    Example:
      worldflux doctor --json
    """
    problems: list[str] = []
    with apart():
        packages, extras = _packages(problems)
        torch = _torch(problems)
        plugins = _plugins(problems)
    data = {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": packages,
        "extras": extras,
        "torch": torch,
        "plugins": plugins,
        "problems": problems,
    }
    emit(data, _text(data), as_json=json)
    if problems:
        raise typer.Exit(PROBLEM)


def _packages(problems: list[str]) -> tuple[dict[str, str | None], dict[str, dict[str, Any]]]:
    """Return the versions of what worldflux-core needs, and of what its extras bring; None where missing."""
    from importlib import metadata

    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    name = "worldflux-core"
    try:
        about = metadata.metadata(name)
        wanted = [Requirement(text) for text in metadata.requires(name) or ()]
    except (metadata.PackageNotFoundError, InvalidRequirement) as error:
        problems.append(f"{name} is not installed as a package ({error}): pip install {name}")
        return {}, {}
    found: dict[str, str | None] = {name: about["Version"]}
    extras: dict[str, dict[str, Any]] = {}
    for requirement in wanted:
        version = _version(requirement.name)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found[requirement.name] = version
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                have = "is missing" if version is None else f"is {version}"
                problems.append(
                    f"{requirement.name} {have}, worldflux-core needs {requirement}: pip install '{requirement}'"
                )
    for extra in about.get_all("Provides-Extra") or ():
        own = {
            r.name: _version(r.name)
            for r in wanted
            if r.marker is not None
            and not r.marker.evaluate({"extra": ""})
            and r.marker.evaluate({"extra": extra})
            and canonicalize_name(r.name) != name
        }
        if own:
            extras[extra] = {"present": None not in own.values(), "packages": own}
    return found, extras


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _torch(problems: list[str]) -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # a broken build fails in many ways
        problems.append(f"torch cannot be imported ({type(error).__name__}: {error}): reinstall it")
        return {}
    devices = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.version.cuda and not devices:
        devices.append("no CUDA device is visible to this CUDA build")
    return {
        "version": str(torch.__version__),
        "build": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        "threads": torch.get_num_threads(),
        "devices": ["cpu", *devices],
    }


def _plugins(problems: list[str]) -> list[dict[str, Any]]:
    """Start every plugin, and return how each stands then."""
    from worldflux.core.errors import PluginError
    from worldflux.plugins import get_kernel

    try:
        kernel = get_kernel()
        found = kernel.plugins
    except PluginError as error:
        problems.append(str(error))
        return []
    for plugin in found:
        try:
            if plugin.state != "blocked":
                kernel.activate(plugin)
        except PluginError as error:
            where = "; `worldflux plugins doctor` shows where" if plugin.state == "failed" else ""
            problems.append(f"{error}{where}")
    return [plugin.to_dict() for plugin in found]


def _text(data: dict[str, Any]) -> str:
    torch, plugins = data["torch"], data["plugins"]
    parts = [
        fields({name: data[name] for name in ("python", "executable", "platform")}),
        fields({f"torch {key}": value for key, value in torch.items()}),
        fields({name: version or "missing" for name, version in data["packages"].items()}),
        "\n".join(
            f"extra {name}: " + ("present" if extra["present"] else _lacking(name, extra["packages"]))
            for name, extra in data["extras"].items()
        ),
        table(("PLUGIN", "VERSION", "STATE"), [(p["name"], p["version"], p["state"]) for p in plugins])
        if plugins
        else "No plugin is installed, so there is no model to train: pip install worldflux-dreamer",
        "\n".join(f"problem: {problem}" for problem in data["problems"]) or "No problems found.",
    ]
    return "\n\n".join(part for part in parts if part)


def _lacking(extra: str, packages: dict[str, str | None]) -> str:
    """What an extra lacks of its packages, and how to get it."""
    lacks = ", ".join(name for name, version in packages.items() if version is None)
    return f"lacks {lacks} (pip install 'worldflux-core[{extra}]')"
