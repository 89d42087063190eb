"""Which plugins this kernel can serve: pure functions of version numbers, each answering with a reason or None.

``plugin_api_version`` is the contract: MINOR adds, MAJOR breaks. ``worldflux_version_range`` is the belt around it, for
known-bad releases; pip already refuses a mismatch, so it matters for ``--no-deps``, editable and conda installs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import importlib_metadata
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from worldflux.core.text import visible

KERNEL = "worldflux-core"
#: API major -> the highest minor of it that this kernel implements.
PLUGIN_API: Mapping[int, int] = {1: 0}


def name_and_version(dist: Any) -> list[str]:
    """What a distribution says it is, from the head of its metadata alone: parsing all of it is slow.

    Raises:
        ValueError: it does not say so.
    """
    files = map(dist.read_text, ("METADATA", "PKG-INFO", ""))
    head = next(filter(None, files), "").partition("\n\n")[0]
    found = [re.search(rf"^{key}:[ \t]*(.*\S)", head, re.IGNORECASE | re.MULTILINE) for key in ("Name", "Version")]
    if None in found:
        raise ValueError("it has no Name or no Version")
    return [visible(match[1])[:200] for match in found if match]


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None if there is none of that name."""
    try:
        return name_and_version(importlib_metadata.distribution(name))[1]
    except (importlib_metadata.PackageNotFoundError, ValueError):
        return None


def kernel_version() -> str:
    """The installed version of worldflux-core; "0" when it runs from a folder that was never installed."""
    return installed_version(KERNEL) or "0"


def canonical(name: str) -> str:
    """A distribution name as PEP 503 compares it: lower case, runs of ``-_.`` are one ``-``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def api_mismatch(declared: str, kernel: str, api: Mapping[int, int] = PLUGIN_API) -> str | None:
    """Why a plugin that needs API ``declared`` ("MAJOR.MINOR") cannot run here, and whose move it is."""
    major, minor = map(int, declared.split("."))
    if minor <= api.get(major, -1):
        return None
    near = major if major in api else max(api)
    has = f"this kernel ({KERNEL} {kernel}) has {near}.{api[near]}"
    if (major, minor) > (near, api[near]):
        return f"needs plugin API {declared}, {has}; update {KERNEL}"
    return f"was written for plugin API {declared}, {has}; update the plugin"


def range_mismatch(declared: str, kernel: str) -> str | None:
    """Why a plugin whose ``worldflux_version_range`` is ``declared`` does not accept this kernel."""
    # base_version with prereleases=True is the one form that means the same in packaging 23 to 26,
    # and lets a development version of the kernel count as the release it will become.
    version = Version(Version(kernel).base_version)
    unmet = [part for part in SpecifierSet(declared) if not part.contains(version, prereleases=True)]
    if not unmet:
        return None
    lower = [part for part in unmet if part.operator in (">=", ">", "~=", "==")]
    newer = lower == unmet and all(version < Version(part.version.removesuffix(".*")) for part in lower)
    move = f"update {KERNEL}" if newer else "update the plugin"
    return f"needs {KERNEL} {declared}, this is {kernel}; {move}"


def requires_unmet(requires: Iterable[str], installed: Callable[[str], str | None]) -> str | None:
    """Which optional dependencies of a plugin are absent, and the line that installs them.

    ``installed`` gives the version of a distribution or None. Nothing is imported.
    """
    lacking = {}
    for line in requires:
        from packaging.requirements import Requirement  # rarely needed, and slow to import

        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            lacking[f"{requirement} ({version or 'absent'})"] = f"'{requirement}'"
    return f"needs {', '.join(lacking)}: pip install {' '.join(lacking.values())}" if lacking else None
