"""Thirty plugins, ten of them broken in ten ways: the others work, and every one is listed with how it stands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldflux.core.errors import PluginError
from worldflux.core.registry import WorldModelRegistry
from worldflux.plugins.kernel import get_kernel

HERE = Path(__file__).parent
GOOD = [f"good{n}" for n in range(20)]
UNDECLARED = """
from worldflux.plugins import hookimpl

@hookimpl
def worldflux_register_models(registrar):
    registrar.add("{id}", dict)
    registrar.add("another", dict)
"""
# How each is broken, and the reason it is listed with once its id was asked for.
BROKEN = {
    "bad-absent": "ModuleNotFoundError: No module named 'acme_cuda'",
    "bad-api": "needs plugin API 1.9, this kernel (worldflux-core 0.1.0) has 1.1; update worldflux-core",
    "bad-duplicate": "models:{other} is already provided by 'alpha-good0'; disable one of the two",
    "bad-exit": "SystemExit: 1",
    "bad-manifest": "broken worldflux.toml: plugin_api_version is missing",
    "bad-missing": "broken worldflux.toml: there is none beside 'bad_missing.plugin'; is it package data of the wheel?",
    "bad-range": "needs worldflux-core <0.1, this is 0.1.0; update the plugin",
    "bad-requires": "needs no-such-thing (absent): pip install 'no-such-thing'",
    "bad-thief": "broken worldflux.toml: the one beside 'alpha_good0' has name 'alpha-good0', expected 'bad-thief'",
    "bad-undeclared": "it registers models:another, which its manifest does not declare.",
}
FAILED = {"bad-absent", "bad-exit", "bad-undeclared"}  # nothing in the list shows it before they are started


def fill(site, text, *, touch: Path | None = None) -> None:
    """Install the thirty; each touches a file of its name in ``touch`` when any of its code runs."""

    def head(name: str, old: str = "", new: str = "") -> str:
        return text.manifest.format(name=name).replace(old, new)

    def add(name: str, **options) -> None:
        init = f"open({str(touch / name)!r}, 'w').close()\n" if touch else ""
        site.add(name, init=init, **options)

    for id in GOOD:
        code = (HERE / "toy_family.py").read_text() if touch is None else text.plugin + LIGHT
        add(
            f"alpha-{id}",
            id=id,
            code=code.replace('"toy', f'"{id}').replace("{id}", id),
            components=part(id),
            manifest=text.model.format(id=id) + f'[aliases]\n{id}-small = "{id}:ci"\n' + PARTS.format(id=id),
        )
    add("bad-absent", code="import acme_cuda")
    add("bad-api", head=head("bad-api", '"1.0"', '"1.9"'))
    add("bad-duplicate", id="good0")
    add("bad-exit", code="import sys\nsys.exit(1)")
    add("bad-manifest", head=head("bad-manifest", 'plugin_api_version = "1.0"'))
    add("bad-missing", manifest=None)
    add("bad-range", head=head("bad-range", ">=0.1,<0.2", "<0.1"))
    add("bad-requires", head=head("bad-requires") + 'requires = ["no-such-thing"]\n')
    add("bad-thief", models={"bad_thief": "alpha_good0.plugin"})
    add("bad-undeclared", code=UNDECLARED.format(id="bad_undeclared"))


LIGHT = """
@hookimpl
def worldflux_register_components(registrar):
    registrar.add("{id}.zero", "action_conditioner", Model)
"""
PARTS = '[[components]]\nid = "{id}.zero"\nslot = "action_conditioner"\n[[backends]]\nid = "{id}_remote"\n'


def part(id: str) -> dict[str, str]:
    return {f"{id}.zero": f"alpha_{id}.plugin"}


def check_states(kernel) -> None:
    """Every one of the thirty is listed, in order, each of the broken with its own reason."""
    found = {plugin.name: plugin for plugin in kernel.plugins if plugin.state != "blocked"}
    assert list(found) == sorted([*(f"alpha-{id}" for id in GOOD), *BROKEN])
    for name, reason in BROKEN.items():
        assert found[name].state == ("failed" if name in FAILED else "rejected")
        assert found[name].reason == reason.format(other="good0")
    assert {found[f"alpha-{id}"].state for id in GOOD} <= {"indexed", "active"}


def ask_for_the_broken(kernel) -> None:
    for name, reason in BROKEN.items():
        if name == "bad-duplicate":  # what it would provide, another does
            continue
        with pytest.raises(PluginError) as error:
            kernel.ensure("model", name.replace("-", "_"))
        assert reason in str(error.value)
        assert name in str(error.value)


def test_the_twenty_work_and_the_ten_are_listed_each_with_its_reason(site, text, monkeypatch):
    torch = pytest.importorskip("torch")
    import worldflux

    fill(site, text)
    kernel = get_kernel()
    names = [*(f"alpha-{id}" for id in GOOD), *BROKEN]
    monkeypatch.setenv("WORLDFLUX_PLUGINS", ",".join(names))
    monkeypatch.setattr(kernel, "version", "0.1.0")
    before = WorldModelRegistry.snapshot()
    kernel.rediscover()
    try:
        for id, other in zip(GOOD, [*BROKEN, *BROKEN]):  # a broken one between any two that work
            if other in FAILED:
                with pytest.raises(PluginError):
                    worldflux.create_world_model(other.replace("-", "_"), obs_shape=(4,), action_dim=2)
            model = worldflux.create_world_model(f"{id}-small", obs_shape=(4,), action_dim=2)
            assert model.backend_handle.model_id == f"{id}:ci"
            state = model.transition(model.encode(torch.zeros(1, 4)), torch.ones(1, 2))
            assert state["z"].shape == (1, 8)
            overridden = worldflux.create_world_model(
                id, obs_shape=(4,), action_dim=2, component_overrides={"action_conditioner": f"{id}.zero"}
            )
            start = overridden.encode(torch.zeros(1, 4))
            assert torch.equal(overridden.transition(start, torch.ones(1, 2))["z"], start["z"])
        ask_for_the_broken(kernel)
        check_states(kernel)
        assert {plugin.state for plugin in kernel.plugins if plugin.name.startswith("alpha-")} == {"active"}
        now = WorldModelRegistry.snapshot()
        own = {name for (kind, name), entry in now.items() if kind == "model" and entry.plugin}
        assert own - {name for _, name in before} == set(GOOD)
    finally:
        for info in site.root.glob("*.dist-info"):
            (info / "entry_points.txt").unlink()
        monkeypatch.undo()
        kernel.rediscover()
        WorldModelRegistry.restore(before)


LIST = """
import json, sys
sys.path.insert(0, {root!r})
import worldflux
from worldflux.plugins import get_kernel
get_kernel().version = "0.1.0"
assert len(worldflux.list_models(surface="all", verbose=True)) >= 20
for n in range(20):
    assert worldflux.get_model_info(f"good{{n}}-small")["model_id"] == f"good{{n}}:ci"
for name in ("bad_api", "bad_missing", "bad_thief", "nothing_of_that_name"):
    try:
        worldflux.get_model_info(name)
    except ValueError:
        pass
print(json.dumps({{plugin.name: plugin.to_dict() for plugin in get_kernel().rediscover()}}))
heavy = {{"torch", "numpy", "pluggy", "pydantic"}} & set(sys.modules)
assert not heavy, heavy
ours = [name for name in sys.modules if name.startswith(("alpha_", "bad_"))]
assert not ours, ours
"""


def test_listing_and_describing_the_thirty_runs_no_line_of_theirs_and_loads_no_torch(site, text, tmp_path):
    touch = tmp_path / "touched"
    touch.mkdir()
    fill(site, text, touch=touch)
    code = LIST.format(root=str(site.root))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert {name for name, entry in listed.items() if entry["state"] == "rejected"} == set(BROKEN) - FAILED
    assert all(listed[name]["reason"] == BROKEN[name].format(other="good0") for name in set(BROKEN) - FAILED)
    assert not list(touch.iterdir())
    import alpha_good0

    assert alpha_good0 and [file.name for file in touch.iterdir()] == ["alpha-good0"]  # the files do tell


def test_in_a_fresh_kernel_the_broken_ones_fail_by_themselves_whatever_is_asked_first(site, text):
    fill(site, text, touch=site.root)
    kernel = site.kernel()
    ask_for_the_broken(kernel)
    check_states(kernel)
    for id in GOOD:
        kernel.ensure("component", f"{id}.zero")
    assert sorted(kernel.registry.list_models()) == sorted(GOOD)
    check_states(kernel)


@pytest.mark.timing
def test_200_distributions_with_30_plugins_of_which_10_broken_are_listed_in_250_ms(site, text):
    for n in range(170):
        folder = site.root / f"other_{n}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: other-{n}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("[console_scripts]\nx = y:z\n")
    fill(site, text, touch=site.root)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        kernel = site.kernel()
        assert len(kernel.plugins) == 30
        assert len(kernel.catalog.presets) == 23  # of the ten, three look sound until they are started
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.25, seconds
