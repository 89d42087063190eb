"""Fake distributions on disk: a package, its manifest, its dist-info; and a kernel that sees nothing else."""

from __future__ import annotations

import importlib.metadata
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from worldflux.core.registry import Registry
from worldflux.plugins.kernel import Kernel

MANIFEST = """
manifest_version = 1
name = "{name}"
plugin_api_version = "1.0"
worldflux_version_range = ">=0.1,<0.2"
capabilities = ["models", "components", "backends", "importers", "commands"]
"""
MODEL = """
[[models]]
id = "{id}"
[models.presets.ci]
description = "A toy"
params = "~0.1M"
default_obs = "vector"
maturity = "reference"
"""
PLUGIN = """
from worldflux.plugins import hookimpl

class Model:
    def __init__(self, config):
        self.config = config

@hookimpl
def worldflux_register_models(registrar):
    registrar.add("{id}", Model)
"""


class Site:
    """A folder of installed distributions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(
        self,
        name: str,
        *,
        package: str | None = None,
        version: str = "1.0",
        manifest: str | None = "",
        head: str | None = None,
        code: str | None = None,
        init: str = "",
        models: Mapping[str, str] | None = None,
        components: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> str:
        """Install one; by default it brings the model ``id`` (the package's name) and works. Returns the package."""
        package = package or name.replace("-", "_")
        id = id or package
        folder = self.root.joinpath(*package.split("."))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(init)
        (folder / "plugin.py").write_text(textwrap.dedent(PLUGIN.format(id=id) if code is None else code))
        if manifest is not None:
            head = MANIFEST.format(name=name) if head is None else head
            (folder / "worldflux.toml").write_text(head + (manifest or MODEL.format(id=id)))
        models = {id: f"{package}.plugin"} if models is None else models
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
        info = self.root / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(lines[0])
        text = ""
        for group, points in (("worldflux.models", models), ("worldflux.components", components or {})):
            text += f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
        (info / "entry_points.txt").write_text(text)
        return package

    def kernel(self, environ: Mapping[str, str] | None = None, version: str = "0.1.0") -> Kernel:
        """A kernel with its own registry that knows these distributions only."""
        return Kernel(
            lambda: importlib.metadata.distributions(path=[str(self.root)]),
            registry=Registry(),
            environ=environ or {},
            version=version,
        )


@pytest.fixture
def site(tmp_path, monkeypatch):
    root = tmp_path / "site"
    root.mkdir()
    monkeypatch.syspath_prepend(root)
    before = set(sys.modules)
    yield Site(root)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or str(getattr(sys.modules[name], "__path__", ""))
        if str(tmp_path) in file:
            del sys.modules[name]


@pytest.fixture
def states() -> Callable[[Kernel], dict[str, str]]:
    return lambda kernel: {plugin.name: plugin.state for plugin in kernel.plugins}


@pytest.fixture
def text():
    """The pieces tests build manifests and plugins from."""
    return SimpleNamespace(manifest=MANIFEST, model=MODEL, plugin=PLUGIN)
