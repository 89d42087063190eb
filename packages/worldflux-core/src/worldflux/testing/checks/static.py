"""What the metadata, the manifest and the installed files say: nothing of the plugin runs."""

from __future__ import annotations

import json
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePath
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from worldflux.plugins import get_kernel
from worldflux.plugins.discovery import COMPONENTS, MANIFEST, MODELS, read_manifest
from worldflux.plugins.manifest import Manifest, ManifestError, parse
from worldflux.plugins.versions import KERNEL, api_mismatch
from worldflux.strangers.distributions import canonical

from ..check import CheckFailed, CheckSkipped, check, expect
from ..subject import Subject

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNREAD = "the manifest cannot be read: see check_manifest_is_valid"


@check(level="static")
def check_manifest_is_valid(subject: Subject) -> None:
    """The manifest is found beside the code, keeps every rule of the format, and has no key the format lacks."""
    try:
        raw = _raw(subject)
        parse(raw, strict=True)
    except (ManifestError, OSError, ValueError) as error:
        raise CheckFailed(f"{MANIFEST} of {subject.plugin.name}: {error}") from error
    name = raw["name"]
    expect(
        canonical(name) == canonical(subject.plugin.name),
        f"{MANIFEST}: name is {name!r}, expected that of the distribution, {subject.plugin.name!r}",
    )


@check(level="static")
def check_ids_are_the_entry_points(subject: Subject) -> None:
    """Every family and component of the manifest has an entry point of its name, and every entry point is declared."""
    manifest = _manifest(subject)
    points = subject.plugin.entry_points
    names = {group: {ep.name for ep in points if ep.group == group} for group in (MODELS, COMPONENTS)}
    models, components = {item.id for item in manifest.models}, {item.id for item in manifest.components}
    beside = ("backends", "importers", "formats")
    others = {name for (kind, name), _ in manifest.owned() if kind in beside} | set(manifest.aliases)
    for group, missing in ((MODELS, models - names[MODELS]), (COMPONENTS, components - names[COMPONENTS])):
        expect(not missing, f'{sorted(missing)} of {MANIFEST} has no entry point in [project.entry-points."{group}"]')
    undeclared = sorted(names[MODELS] - models - others) + sorted(names[COMPONENTS] - components)
    expect(not undeclared, f"entry point {undeclared} is not declared in {MANIFEST}")


@check(level="static")
def check_plugin_api_is_supported(subject: Subject) -> None:
    """This kernel has the plugin API that the plugin needs."""
    reason = api_mismatch(_manifest(subject).plugin_api_version, get_kernel().version)
    expect(reason is None, f"{subject.plugin.name} {reason}; plugin_api_version is the lowest that is needed")


@check(level="static")
def check_kernel_range_is_the_requirement(subject: Subject) -> None:
    """``worldflux_version_range`` is what the distribution requires of worldflux-core."""
    stated = SpecifierSet(_manifest(subject).worldflux_version_range)
    required = [
        str(requirement.specifier)
        for requirement in map(Requirement, _installed(subject).requires or ())
        if canonical(requirement.name) == KERNEL and requirement.marker is None
    ]
    expect(bool(required), f"the distribution does not require {KERNEL}; add '{KERNEL}{stated}' to its dependencies")
    together = SpecifierSet(",".join(filter(None, required)))
    expect(
        stated == together,
        f"worldflux_version_range is '{stated}', but the distribution requires '{KERNEL}{together}'; say the same",
    )


@check(level="static")
def check_is_accepted(subject: Subject) -> None:
    """The kernel accepts the plugin: its dependencies are there, its ids are its own, and nobody blocks it."""
    plugin = subject.plugin
    if plugin.state not in ("rejected", "blocked"):
        return
    for other in (check_manifest_is_valid, check_ids_are_the_entry_points, check_plugin_api_is_supported):
        try:
            other(subject)
        except CheckSkipped:
            continue
        except CheckFailed:
            raise CheckSkipped(f"rejected for what {other.__name__} says") from None
    raise CheckFailed(plugin.problem)


@check(level="static")
def check_shadows_no_name(subject: Subject) -> None:
    """No alias of the plugin is somebody else's name: such an alias is ignored."""
    notes = [note for note in subject.plugin.notes if note.startswith("alias ")]
    expect(not notes, f"{'; '.join(notes)}; give it a name of the plugin's own")


@check(level="static")
def check_has_a_readme(subject: Subject) -> None:
    """The distribution carries its README, which is its page on a package index."""
    text = str(_installed(subject).metadata.json.get("description", ""))
    expect(text.strip() != "", 'the distribution has no description; put readme = "README.md" into [project]')


@check(level="static")
def check_has_a_licence(subject: Subject) -> None:
    """The installed distribution carries the text of its licence."""
    found = [path for path in _files(subject) if path.stem.lower() in ("license", "licence", "copying")]
    expect(bool(found), "no LICENSE is installed; put one beside pyproject.toml, and license-files into [project]")


@check(level="static")
def check_is_typed(subject: Subject) -> None:
    """Every package of the plugin carries ``py.typed``, without which type checkers take all of it for Any."""
    files = {path.as_posix() for path in _files(subject)}
    for package in sorted({ep.module.partition(".")[0] for ep in subject.plugin.entry_points}):
        found = any(name.startswith(f"{package}/") and name.endswith("/py.typed") for name in files)
        expect(found, f"{package}/py.typed is not installed; add the empty file, and list it as package data")


def _raw(subject: Subject) -> dict[str, Any]:
    if not subject.plugin.entry_points:
        raise ManifestError(subject.plugin.reason)
    texts = {read_manifest(module) for module in sorted({ep.module for ep in subject.plugin.entry_points})}
    if len(texts) > 1:
        raise ManifestError("the entry points lead to different manifests; a distribution has one")
    return tomllib.loads(texts.pop().decode())


def _manifest(subject: Subject) -> Manifest:
    """The manifest, also of a plugin that the kernel rejected for another reason."""
    try:
        return parse(_raw(subject))[0]
    except (ManifestError, OSError, ValueError):
        raise CheckSkipped(UNREAD) from None


def _installed(subject: Subject) -> Distribution:
    try:
        return distribution(subject.plugin.name)
    except PackageNotFoundError:
        raise CheckSkipped("the distribution's metadata cannot be read") from None


def _files(subject: Subject) -> list[PurePath]:
    """The installed files; what an editable install would build cannot be seen."""
    dist = _installed(subject)
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        raise CheckSkipped("installed in editable mode: this can only be seen of a wheel")
    if not dist.files:
        raise CheckSkipped("the installer kept no record of the files")
    return [PurePath(path) for path in dist.files if Path(str(dist.locate_file(path))).exists()]
