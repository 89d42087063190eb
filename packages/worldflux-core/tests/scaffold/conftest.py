"""A rendered package, and the same one installed as a wheel would be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from worldflux.plugins.versions import kernel_version
from worldflux.scaffold import choose_names, render, write

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def install(project: Path, site: Path) -> None:
    """Put a project's package and metadata into ``site`` as its wheel would, without a build backend."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    requires = [f"Requires-Dist: {line}" for line in about["dependencies"]]
    for extra, lines in about["optional-dependencies"].items():
        requires += [f"Provides-Extra: {extra}", *(f"Requires-Dist: {line}; extra == '{extra}'" for line in lines)]
    head = [f"Name: {about['name']}", f"Version: {about['version']}", f"Requires-Python: {about['requires-python']}"]
    head += ["License-Expression: MIT", "License-File: LICENSE", "Description-Content-Type: text/markdown"]
    readme = (project / "README.md").read_text()
    points = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in found.items())
        for group, found in about["entry-points"].items()
    ]
    texts = {
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.4", *head, *requires, "", readme]),
        f"{info}/entry_points.txt": "\n".join(points),
        f"{info}/licenses/LICENSE": (project / "LICENSE").read_text(),
    }
    source = project / "src"
    texts |= {str(p.relative_to(source)): p.read_text() for p in source.rglob("*") if p.is_file()}
    texts[f"{info}/RECORD"] = "".join(f"{place},,\n" for place in [*texts, f"{info}/RECORD"])
    for place, text in texts.items():
        (site / place).parent.mkdir(parents=True, exist_ok=True)
        (site / place).write_text(text)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The package ``acme-world`` with the family ``acme``, as a folder."""
    names = choose_names("acme-world", family="acme", kernel=kernel_version())
    folder = tmp_path_factory.mktemp("new") / "acme-world"
    write(render(names), folder)
    return folder


@pytest.fixture(scope="session")
def site(project, tmp_path_factory):
    """A folder of installed distributions with that package in it."""
    folder = tmp_path_factory.mktemp("site")
    install(project, folder)
    return folder
