"""Fake distributions on disk: a package, its manifest, its dist-info; and a kernel that sees nothing else."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import importlib_metadata
import pytest

from worldflux.core.registry import Registry, WorldModelRegistry
from worldflux.plugins.discovery import Plugin
from worldflux.plugins.kernel import Kernel, get_kernel

HERE = Path(__file__).parent

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
EXTRAS = """
[[components]]
id = "{id}.zero"
slot = "action_conditioner"
[[backends]]
id = "{id}_remote"
[[importers]]
id = "official-{id}"
target = "{id}.plugin:load"
[[commands]]
name = "{id}-probe"
summary = "Look"
target = "{id}.plugin:probe"
"""
HOOKS = {
    "head": """
from worldflux.plugins import hookimpl
import {id}.helper
with open(__file__ + ".ran", "a") as log:
    log.write("x")

class Thing:
    def __init__(self, config):
        self.config = config

def load(source, config=None):
    return Thing
""",
    "models": """
@hookimpl
def worldflux_register_models(registrar):
    registrar.add("{id}", Thing)
""",
    "components": """
@hookimpl
def worldflux_register_components(registrar):
    registrar.add("{id}.zero", "action_conditioner", Thing)
""",
    "backends": """
@hookimpl
def worldflux_register_backends(registrar):
    registrar.add("{id}_remote", Thing)
""",
    "events": """
@hookimpl
def worldflux_resolve_preset(family, preset):
    return None

@hookimpl
def worldflux_model_created(model):
    pass
""",
}


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

    def kernel(
        self, environ: Mapping[str, str] | None = None, version: str = "0.1.0", registry: Registry | None = None
    ) -> Kernel:
        """A kernel, if nothing else is said with its own registry, that knows these distributions only."""
        return Kernel(
            lambda: importlib_metadata.distributions(path=[str(self.root)]),
            registry=Registry() if registry is None else registry,
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
    return SimpleNamespace(manifest=MANIFEST, model=MODEL, plugin=PLUGIN, extras=EXTRAS, hooks=SimpleNamespace(**HOOKS))


class House:
    """The registry of this process with a plugin at work (acme-world), one that waits, and room for a broken one."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.install("acme-world")
        self.install("waiting-world")
        self.kernel = site.kernel(registry=WorldModelRegistry)
        self.kernel.ensure("model", "acme_world")

    def install(self, name: str, *, code: str | None = None, id: str | None = None, **options: Any) -> None:
        """A plugin with a model, a component, a backend, an importer and a command; ``options`` as of ``Site.add``."""
        package = name.replace("-", "_")
        id = id or package
        code = "".join(HOOKS.values()) if code is None else code
        usual = {
            "head": MANIFEST.format(name=name) + 'requires = ["pluggy"]\n',
            "manifest": MODEL.format(id=id) + EXTRAS.format(id=package),
            "models": {id: f"{package}.plugin"},
            "components": {f"{package}.zero": f"{package}.plugin"},
        }
        self.site.add(name, code=code.replace("{id}", package), **(usual | options))
        (self.site.root / package / "helper.py").write_text("")

    def add_broken(self, **options: Any) -> Plugin:
        """Install broken-world and look again; returns it."""
        self.install("broken-world", **options)
        self.kernel.rediscover()
        return self.broken

    @property
    def broken(self) -> Plugin:
        (plugin,) = [plugin for plugin in self.kernel.plugins if plugin.name == "broken-world"]
        return plugin

    def snapshot(self) -> dict[str, Any]:
        """Everything that a plugin could disturb, apart from its own line in the list."""
        host, catalog = self.kernel._hooks(), self.kernel.catalog
        hooks = {name: hook.get_hookimpls() for name, hook in vars(host._pm.hook).items() if name[0] != "_"}
        return {
            "hooks": {
                name: [(impl.plugin_name, impl.function) for impl in impls] for name, impls in hooks.items() if impls
            },
            "active": (host._pm.list_name_plugin(), set(host._labels)),
            "registry": self.kernel.registry.snapshot(),
            "list": [plugin.to_dict() for plugin in self.kernel.plugins if plugin.name != "broken-world"],
            "presets": [found.model_id for found in catalog.presets if found.plugin.name != "broken-world"],
            "aliases": catalog.aliases,
            "names": {
                (kind, name)
                for kind in ("components", "backends", "importers", "commands")
                for name, (plugin, _) in catalog.items(kind).items()
                if plugin.name != "broken-world"
            },
            "modules": set(sys.modules),
        }

    def still_works(self) -> None:
        """The plugin at work has its names, and the one that waited can start."""
        registry = self.kernel.registry
        assert registry.model("acme_world").plugin == registry.component("acme_world.zero").plugin == "acme-world 1.0"
        self.kernel.ensure("model", "waiting_world")
        assert registry.model("waiting_world").plugin == "waiting-world 1.0"
        assert self.kernel.factory("backend", "waiting_world_remote").__name__ == "Thing"


@pytest.fixture
def house(site):
    registered = WorldModelRegistry.snapshot()
    yield House(site)
    WorldModelRegistry.restore(registered)


@pytest.fixture
def toy(site, monkeypatch):
    """The toy family, installed beside whatever is installed here, and alone allowed; what makes models needs torch."""
    monkeypatch.setenv("WORLDFLUX_PLUGINS", "toy-family")
    site.add(
        "toy-family",
        head=(HERE / "toy_family.toml").read_text(),
        manifest="\n",
        code=(HERE / "toy_family.py").read_text(),
        models={"toy": "toy_family.plugin"},
        components={"toy.zero": "toy_family.plugin"},
    )
    get_kernel().rediscover()
    before = WorldModelRegistry.snapshot()  # only now: plugins that were at work and are blocked here have been stopped
    yield get_kernel()
    WorldModelRegistry.restore(before)
    (site.root / "toy_family-1.0.dist-info" / "entry_points.txt").unlink()
    monkeypatch.undo()
    get_kernel().rediscover()
