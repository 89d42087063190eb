"""Which versions work together: judges the kernel and the family that are installed, and writes the page about it.

``nox -s compat`` runs this file in environments that hold other versions, so it asks for nothing but names that every
kernel since 0.1 has; a default test loads it to hold the checkout to the same table.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHAPES = ((6,), (3, 32, 32), (3, 64, 64))
TABLE = Path(__file__).with_name("compat_matrix.toml")
MANIFEST = """
manifest_version = 1
name = "{name}"
plugin_api_version = "{plugin_api_version}"
worldflux_version_range = "{worldflux_version_range}"
capabilities = ["models"{more}]
[[models]]
id = "{name}"
"""
FORMATS = """
[[formats]]
id = "compat"
markers = ["compat.json"]
"""
INTRODUCTION = """\
# Which versions work together

Written by `nox -s compat` from [tests/compat_matrix.toml](../tests/compat_matrix.toml), which holds what is expected;
the run fails where a verdict is another. Do not edit by hand. What the two numbers mean and how to choose them:
[publish and version it](plugins/publish-and-version.md).
"""
PLUGINS = """
## What a plugin declares, and what the kernel says

worldflux-core {kernel} implements plugin API {api}. Each row is a plugin that declares these two numbers, found and
judged as an installed one is. A kernel other than {kernel}, or of another API, is the same code under another number.

| plugin API | range | kernel | state | what the list says |
| --- | --- | --- | --- | --- |
"""
RELEASES = """
## Kernel and families

Every pairing of this checkout with the last release tag of each package, built as wheels and installed together
without asking pip whether they fit.

| kernel | family | expected | verdict | what was run |
| --- | --- | --- | --- | --- |
"""


def load() -> dict[str, Any]:
    """The table of expected verdicts."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def kernel_api() -> str:
    """The highest plugin API the installed kernel implements, "MAJOR.MINOR"."""
    from worldflux.plugins.versions import PLUGIN_API

    return f"{max(PLUGIN_API)}.{PLUGIN_API[max(PLUGIN_API)]}"


def number(version: str) -> tuple[int, ...]:
    """A plugin API as numbers to compare."""
    return tuple(map(int, version.split(".")))


def expected_sentence(row: Mapping[str, Any], kernel: str, api: str) -> str:
    """The words of a row of [[plugins]] from this kernel; empty where the plugin is taken."""
    return str(row.get("sentence", "")).format(kernel=row.get("kernel", kernel), api=api.partition(".")[2])


def judge(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(state, sentence) the installed kernel gives a plugin that declares what each row says."""
    from worldflux.plugins import Kernel
    from worldflux.plugins.versions import PLUGIN_API

    verdicts = []
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            fake_distribution(Path(folder), row)
            found = lambda site=folder: importlib.metadata.distributions(path=[site])
            sys.path.insert(0, folder)
            importlib.invalidate_caches()
            major, _, minor = row.get("kernel_api", kernel_api()).partition(".")
            try:
                with mock.patch.dict(PLUGIN_API, {int(major): int(minor)}):
                    (plugin,) = Kernel(found, environ={}, version=row.get("kernel")).plugins
            finally:
                sys.path.remove(folder)
            verdicts.append((plugin.state, "" if plugin.state == "indexed" else plugin.problem))
    return verdicts


def fake_distribution(site: Path, row: Mapping[str, Any]) -> None:
    """Install into the folder ``site`` a plugin that declares what ``row`` says, and has no code worth running."""
    module = "compat_" + row["name"].replace("-", "_")
    package, info = site / module, site / f"{row['name'].replace('-', '_')}-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('judging a plugin must not run its code')\n")
    formats, more = (FORMATS, ', "formats"') if row.get("formats") else ("", "")
    (package / "worldflux.toml").write_text(MANIFEST.format(**row, more=more) + formats, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {row['name']}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[worldflux.models]\n{row['name']} = {module}\n")


def try_family(family: str, level: str = "full") -> tuple[str, list[str]]:
    """("works" | "rejected: …" | "fails: …", what was run) for an installed distribution and the installed kernel."""
    from worldflux.plugins import get_kernel

    ran = ["listed"]
    plugin = next((plugin for plugin in get_kernel().plugins if plugin.name == family), None)
    if plugin is None:
        return "fails: it is not in the list", ran
    if plugin.state != "indexed" or plugin.notes:
        return f"{plugin.state}: {'; '.join([plugin.reason, *plugin.notes])}", ran
    ids = [model.id for model in plugin.manifest.models]
    try:
        for name in ids:
            build_smallest(name)
        ran.append("its smallest preset built and rolled out")
        if importlib.util.find_spec("worldflux.testing") is None:
            ran.append("no conformance kit in this kernel")
        else:
            for name in ids:
                conform(name, level)
            ran.append("the kernel's conformance kit")
    except Exception as error:
        return f"fails: {type(error).__name__}: {error}".splitlines()[0], ran
    return "works", ran


def build_smallest(family: str) -> None:
    """Build the smallest preset of a family for the first shape it accepts, and let it imagine two steps if it can."""
    import torch

    import worldflux

    presets = [
        name for name in worldflux.list_models(surface="all") if worldflux.get_model_info(name)["type"] == family
    ]
    preset = next((name for name in presets if name.endswith(":ci")), presets[0])
    for shape in SHAPES:
        try:
            model = worldflux.create_world_model(preset, obs_shape=shape, action_dim=3)
        except ValueError:
            if shape == SHAPES[-1]:
                raise
            continue
        state = model.encode(torch.zeros(2, *shape), deterministic=True)
        if model.supports(worldflux.Capability.LATENT_DYNAMICS):
            model.rollout(state, torch.zeros(2, 2, 3), deterministic=True)
        return


def conform(family: str, level: str) -> None:
    """Hold a family to the installed kernel's kit."""
    from worldflux.testing import run_checks

    failed = [result for result in run_checks(family, level=level) if result.outcome == "failed"]
    if failed:
        raise AssertionError("; ".join(f"{result.check}: {result.message}" for result in failed))


# -- the page -----------------------------------------------------------------------------------------


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def plugins_part(table: Mapping[str, Any], kernel: str, api: str) -> str:
    """What the page says of fixture plugins: the table's sentences for this kernel."""
    rows = []
    for row in table["plugins"]:
        sentence = expected_sentence(row, kernel, api)
        declared = f"`{row['worldflux_version_range']}`" if row["worldflux_version_range"] else "(any)"
        words = f"`{sentence}`" if sentence else ""
        judge_version = row.get("kernel", kernel) + (f", API {row['kernel_api']}" if "kernel_api" in row else "")
        rows.append(f"| {row['plugin_api_version']} | {declared} | {judge_version} | {row['state']} | {cell(words)} |")
    return PLUGINS.format(kernel=kernel, api=api) + "\n".join(rows) + "\n"


def named(name: str, which: str, version: str | None) -> str:
    """How the page names one side of a pairing; ``version`` is None where no release is tagged yet."""
    if version is None:
        return f"{name}: no release yet"
    return f"{name} {version}, {'this checkout' if which == 'this' else 'last release'}"


def releases_part(cells: Iterable[Mapping[str, Any]]) -> str:
    """What the page says of kernel and families; a cell has kernel, family, versions, expected, verdict, ran."""
    rows = []
    for one in cells:
        kernel = named("worldflux-core", one["kernel"], one["kernel_version"])
        family = named(one["name"], one["family"], one["family_version"])
        ran = ", ".join(one["ran"]) or "nothing: there is no such pairing yet"
        rows.append(f"| {kernel} | {family} | {one['expected']} | {cell(one['verdict'])} | {cell(ran)} |")
    return RELEASES + "\n".join(rows) + "\n"


def page(table: Mapping[str, Any], kernel: str, api: str, cells: Iterable[Mapping[str, Any]]) -> str:
    """The whole of docs/compatibility.md."""
    return INTRODUCTION + plugins_part(table, kernel, api) + releases_part(cells)


def unexpected(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Pairings that were run and whose verdict is not the expected one."""
    wrong = []
    for one in cells:
        kinds = (one["expected"], "not run")
        if one["verdict"].partition(":")[0] not in kinds:
            kernel = named("worldflux-core", one["kernel"], one["kernel_version"])
            family = named(one["name"], one["family"], one["family_version"])
            wrong.append(f"{kernel}, with {family}: expected {one['expected']}, got {one['verdict']}")
    return wrong


def wrong_plugins() -> list[str]:
    """Rows of [[plugins]] about which the installed kernel says something else than expected."""
    kernel, api, rows = importlib.metadata.version("worldflux-core"), kernel_api(), load()["plugins"]
    rows = [row for row in rows if number(row.get("since", "0.0")) <= number(api)]
    wanted = [(row["state"], expected_sentence(row, kernel, api)) for row in rows]
    pairs = zip(rows, wanted, judge(rows))
    return [f"{row['name']}: expected {want}, got {got}" for row, want, got in pairs if want != got]


def main() -> None:
    """``plugins`` judges the table's plugins, ``family NAME`` tries a family, ``page`` writes what came of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("task", choices=["plugins", "family", "page"])
    parser.add_argument("name", nargs="?", help="a family's distribution")
    parser.add_argument("--level", default="full", help="how far the conformance kit goes")
    parser.add_argument("--cells", type=Path, help="JSON list of the pairings tried: family adds to it, page reads it")
    parser.add_argument("--about", default="{}", help="JSON of what is known of the pairing that is tried")
    parser.add_argument("--out", type=Path, help="the page")
    options = parser.parse_args()
    cells = json.loads(options.cells.read_text()) if options.cells and options.cells.exists() else []
    if options.task == "plugins":
        sys.exit("\n".join(wrong_plugins()) or None)
    elif options.task == "family":
        about = json.loads(options.about)
        verdict, ran = ("not run", []) if about.get("absent") else try_family(options.name, options.level)
        print(f"{options.name}: {verdict} ({', '.join(ran)})")
        if options.cells is None:
            sys.exit(verdict != "works")
        options.cells.write_text(json.dumps([*cells, {**about, "verdict": verdict, "ran": ran}]))
    else:
        text = page(load(), importlib.metadata.version("worldflux-core"), kernel_api(), cells)
        options.out.write_text(text, encoding="utf-8")
        sys.exit("\n".join(unexpected(cells)) or None)


if __name__ == "__main__":
    main()
