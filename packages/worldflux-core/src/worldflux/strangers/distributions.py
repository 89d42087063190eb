"""Installed distributions, read without importing anything of them: names, versions, entry points, files."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from typing import Any

import importlib_metadata

from .text import visible


def canonical(name: str) -> str:
    """A distribution name as PEP 503 compares it: lower case, runs of ``-_.`` are one ``-``."""
    return re.sub(r"[-_.]+", "-", name).lower()


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


def requires_unmet(requires: Iterable[str], installed: Callable[[str], str | None] = installed_version) -> str | None:
    """Which of some requirements are not met, and the line that installs them.

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


@dataclass(frozen=True)
class EntryPoint:
    """A line of entry_points.txt; what is none is kept, where some releases of importlib_metadata would raise."""

    group: str
    name: str
    value: str

    @property
    def module(self) -> str:
        """The module it leads to."""
        return re.split(r"[\s:\[]", self.value)[0]

    @property
    def well_formed(self) -> bool:
        """Whether its value is a reference, "module" or "module:object"."""
        return importlib_metadata.EntryPoint.pattern.match(self.value) is not None

    def load(self) -> Any:
        """Import what it leads to."""
        return importlib_metadata.EntryPoint(self.name, self.value, self.group).load()


def entry_points(text: str, groups: Collection[str]) -> tuple[EntryPoint, ...]:
    """The lines of entry_points.txt in some of its groups."""
    found, group = [], ""
    for line in map(str.strip, text.splitlines()):
        name, equals, value = map(str.strip, line.partition("="))
        if line.startswith("["):
            group = line.strip("[]")
        elif equals and group in groups and not line.startswith("#"):
            found.append(EntryPoint(group, visible(name), visible(value)))
    return tuple(found)


def _specs(name: str) -> list[ModuleSpec]:
    """The specs of a module's packages, outermost first, and its own; up to the first that is not there."""
    found: list[ModuleSpec] = []
    parts, path = name.split("."), None
    for n in range(1, len(parts) + 1):
        head = ".".join(parts[:n])
        finders = (finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next(filter(None, (find(head, path, None) for find in finders)), None)
        if spec is None:
            break
        found.append(spec)
        path = spec.submodule_search_locations
        if path is None:
            break
        if spec.loader is None and head != name:
            importlib.import_module(head)  # a namespace package: no code to run, and nested ones need it
    return found


def file_beside(module: str, name: str, most: int) -> bytes | None:
    """A file of the nearest package that encloses ``module``, ``most`` bytes of it; None if no package has it.

    Works in folders, zips and editable installs.
    """
    for spec in reversed(_specs(module)):
        for location in spec.submodule_search_locations or ():
            path = os.path.join(location, name)
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    return file.read(most)
            if not os.path.isdir(location):  # inside of a zip
                with contextlib.suppress(AttributeError, OSError):
                    return bytes(spec.loader.get_data(path))  # type: ignore[union-attr]
    return None
